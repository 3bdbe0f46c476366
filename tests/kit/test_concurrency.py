"""Background tasks end when they are stopped, even if a library swallows a cancellation."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.kit import concurrency
from app.kit.concurrency import end_tasks


async def loop_that_swallows(cancellations: int) -> None:
    """Run forever; as many cancellations are lost, as in a read that completes at the same moment."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if cancellations == 0:
                raise
            cancellations -= 1


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_a_task_ends_whose_cancellation_was_lost(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "CANCEL_AGAIN_SECONDS", 0.01)
    tasks = [asyncio.create_task(loop_that_swallows(lost)) for _ in range(2)]
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await end_tasks(*tasks)

    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_failed_is_logged_and_one_that_never_started_is_ignored() -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    task = asyncio.create_task(fail(), name="broken")
    await asyncio.wait({task})

    with capture_logs() as logged:
        await end_tasks(task, None)

    assert [(entry["event"], entry["task"]) for entry in logged] == [("task-failed", "broken")]

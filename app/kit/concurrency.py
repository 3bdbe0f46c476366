"""Groups of tasks, whose first failure is raised without a group, and turns on the event loop."""

import asyncio
from collections.abc import Collection, Coroutine, Generator, Iterable
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

import structlog

CANCEL_AGAIN_SECONDS = 2.0
SLICE_SECONDS = 0.004
"""How long a long computation holds the event loop before others get a turn."""

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class Turns:
    """Lets a long computation on the event loop give others a turn every few milliseconds."""

    def __init__(self) -> None:
        self._due = perf_counter() + SLICE_SECONDS

    async def give(self) -> None:
        """Let others run if the computation has held the event loop for `SLICE_SECONDS`."""
        if perf_counter() > self._due:
            await asyncio.sleep(0)
            self._due = perf_counter() + SLICE_SECONDS


async def all_of(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run several coroutines concurrently and return their results; the first failure cancels the others."""
    with plain_errors():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


@contextmanager
def plain_errors() -> Generator[None]:
    """Raise the first error of a `TaskGroup` instead of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise first_error(group) from group


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error that is not a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def wait_until_ended(tasks: Collection[asyncio.Task[Any]], seconds: float, hurry: asyncio.Event) -> None:
    """Wait until all tasks have ended, the time is up, or `hurry` is set, whichever comes first."""
    if not tasks:
        return
    waits: list[asyncio.Task[Any]] = [asyncio.create_task(asyncio.wait(tasks)), asyncio.create_task(hurry.wait())]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel background tasks and wait until they have ended; a task that is `None` was never started.

    A library can swallow a cancellation that arrives just as its operation completes or times out. The task then
    continues as if nothing had happened, so a task that has not ended after a while is cancelled again.
    """
    started = [task for task in tasks if task is not None]
    pending = {task for task in started if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
    for task in started:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task-failed", task=task.get_name(), exc_info=error)

# pyright: reportPrivateUsage=false
"""A process stopped for longer than its lease: another continues its runs, and it changes nothing when it wakes."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.database.connection import Raw
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.timings import DEFAULT_TIMINGS
from tests.fixtures.model_server import Call, ModelServer, Reply, completion
from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.runs import (
    TERMINAL,
    Catalog,
    StartProcess,
    accept,
    all_events,
    gapless,
    of_type,
    process_settings,
    stored,
    stored_once,
    subfolder,
    types_of,
    until,
)
from tests.fixtures.services import Service

pytestmark = [pytest.mark.usefixtures("lone_processes"), pytest.mark.long]
HANGS = "(input) => { if (input.never) { fetch(input.never) } for (;;) {} }"
"""Names `fetch`, so it may have effects: whoever takes over does not run it again."""
TOOL_ENDS = ["agent-start", "agent-thinking", "tool-call", "agent-retry", "tool-result", "agent-response"]


def children_of(pid: int) -> set[int]:
    """The processes that one started and that live."""
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.add(int(entry.parent.name))
    return found


def is_busy(pid: int) -> bool:
    """Whether a process computes just now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:
        return False


async def worker(service: Service, model_server: ModelServer, folder: Path, stack: AsyncExitStack) -> ServeProcess:
    """A worker process on the service's database, whose tools may take long."""
    settings = process_settings(service, folder, model_server)
    return await stack.enter_async_context(serving(folder, "worker", **settings, TOOL_TIMEOUT_SECONDS="60"))


async def test_a_process_stopped_past_its_leases_loses_its_runs_and_stores_nothing(
    service: Service, model_server: ModelServer, start_process: StartProcess, catalog: Catalog, tmp_path: Path
) -> None:
    frozen = asyncio.Event()
    late: list[Call] = []
    waiting: list[Call] = []

    async def work(call: Call) -> Reply:
        if "in a tool" in call.text:
            return "Done." if call.tool_results else completion("Hm.", ("hang", {}))
        waiting.append(call)
        if not frozen.is_set():
            await frozen.wait()
            late.append(call)
            return "The zombie's."
        return "The heir's."

    model_server.on("work", work)
    await catalog.edit_tool("hang", executeFunction=HANGS)
    full = await start_process(RunLimits(max_concurrent=0))
    async with AsyncExitStack() as stack:
        zombie = await worker(service, model_server, subfolder(tmp_path, "zombie"), stack)
        in_tool = await accept(service, full, "agent", judge=False, prompt="You are in a tool.")
        in_model = await accept(service, full, "agent", judge=False, prompt="You are in a model call.")
        await stored_once(service, in_tool, lambda document: document["lastSeq"] == 3)
        await stored_once(service, in_model, lambda document: document["lastSeq"] == 1)
        await until(lambda: any(is_busy(pid) for pid in children_of(zombie.process.pid)))
        sandboxes = {pid for pid in children_of(zombie.process.pid) if is_busy(pid)}
        assert waiting

        zombie.process.send_signal(signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
        frozen.set()
        await worker(service, model_server, subfolder(tmp_path, "heir"), stack)
        ended = [await ended_within(service, one, 3 * DEFAULT_TIMINGS.lease_seconds) for one in (in_tool, in_model)]
        took = asyncio.get_running_loop().time() - began
        before, asked = [await all_events(service, one) for one in (in_tool, in_model)], len(model_server.calls)
        assert sandboxes <= children_of(zombie.process.pid)
        zombie.process.send_signal(signal.SIGCONT)

        await until(lambda: not any(is_busy(pid) for pid in sandboxes & children_of(zombie.process.pid)))
        third = await accept(service, full, "agent", judge=False, prompt="You are in a model call.")
        await ended_within(service, third, 30)
        assert await zombie.stop() == 0
        assert not children_of(zombie.process.pid)

    assert took > DEFAULT_TIMINGS.lease_seconds / 2  # its leases were renewed within the last half
    assert late
    assert [document["takeovers"] for document in ended] == [1, 1]
    assert [document["status"] for document in ended] == ["completed", "completed"]
    assert [document["output"]["text"] for document in ended] == ["Done.", "The heir's."]
    assert [await all_events(service, one) for one in (in_tool, in_model)] == before
    assert [without_counts(await stored(service, one)) for one in (in_tool, in_model)] == list(
        map(without_counts, ended)
    )
    assert all(gapless(events) for events in before)
    assert types_of(before[0]) == [*TOOL_ENDS, "agent-complete"]
    assert of_type(before[0], "tool-result")[0]["output"]["error"]["code"] == "outcome-unknown"
    assert len(model_server.calls) == asked + 1  # the third run's


async def ended_within(service: Service, execution_id: str, seconds: float) -> Raw:
    """The document once its execution has ended."""
    async with asyncio.timeout(seconds):
        while (document := await stored(service, execution_id))["status"] not in TERMINAL:  # noqa: ASYNC110 - others store it
            await asyncio.sleep(0.1)
    return document


def without_counts(document: Raw) -> Raw:
    """A document without the marks of its end, which are counted afterwards."""
    return {name: value for name, value in document.items() if name not in ("uncounted", "outbox")}

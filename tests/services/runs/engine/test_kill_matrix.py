"""Real workers killed at every place where one can be made to fail, in runs of every kind, and real heirs.

What was stored at the death stays as it was, and none of it is done again: each model call after the death answers
something that was not stored before it.
"""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from bson import ObjectId

from app.database.connection import Raw
from app.failpoints import PLACES
from app.models.catalog.custom_tool import CustomTool
from app.services.runs.engine.dispatcher import RunLimits
from tests.fixtures.model_server import Call, Json, ModelServer, completion, plan_of
from tests.fixtures.processes import serving
from tests.fixtures.runs import (
    ADA,
    BOB,
    CYD,
    DEPARTMENT,
    Catalog,
    StartProcess,
    accept,
    all_events,
    expire,
    finished,
    gapless,
    of_type,
    process_settings,
    stored,
    subfolder,
)
from tests.fixtures.services import Service
from tests.fixtures.web_server import WebServer, web_server

pytestmark = pytest.mark.usefixtures("lone_processes")
ELSEWHERE = (
    *("before-insert", "after-insert", "after-decision"),
    *("before-outbox-commit", "after-outbox-commit", "after-outbox-removal"),
    *("before-audit-append", "after-audit-append"),
)
"""The places that these workers do not pass: they accept no run, no one decides, and others append audit entries."""
OF_WORKERS = [place for place in PLACES if place not in ELSEWHERE]
LATER = ["before-model-call:kill:2", "after-model-call:kill:2", "after-tool-call:kill:3", "after-commit:kill:2"]
RING = """async ({ run }, { fetch }) => (await fetch("http://127.0.0.1:PORT/NAME/" + run)).status"""
RUN_TAKEN = re.compile(r"run-taken .*executionId=(exec_\w+)")
NOT_FOUND = 404
"""The answer of the web server, which has no pages."""
BODIES: dict[str, Json] = {"agent": {"judge": False}, "department": {}, "orchestration": {"departments": [DEPARTMENT]}}
FETCHING = {"TOOL_EGRESS_ALLOWLIST": "127.0.0.1"}
EFFECTS = {"notify": False, "ringAgain": True}
"""Tools that others notice, and whether each is marked `idempotent`."""


@dataclass(frozen=True)
class Death:
    """The stored part of a run when its worker had died."""

    execution_id: str
    place: str
    events: list[Json]
    calls: int
    takeovers: int
    """0, unless a worker waited longer than a lease for its death, and took over what another had begun."""


@pytest.fixture
async def bells(service: Service, catalog: Catalog) -> AsyncGenerator[WebServer]:
    """A web server that Ada's tools with an effect call."""
    async with web_server() as web:
        tools = [
            CustomTool(
                tool_name=name,
                description=name,
                execute_function=RING.replace("PORT", str(web.port)).replace("NAME", name),
                is_global=True,
                idempotent=idempotent,
            )
            for name, idempotent in EFFECTS.items()
        ]
        for tool in tools:
            await tool.insert()
        rows = [{"toolName": name, "id": str(ObjectId())} for name in ("echo", *EFFECTS)]
        await catalog.edit_agent(ADA, toolNames=rows)
        yield web
        for tool in tools:
            await tool.delete()


async def die_at(
    places: list[str], kind: str, service: Service, folder: Path, model_server: ModelServer, queue: StartProcess
) -> list[Death]:
    """Let a worker for each place take one run and die in it there; what was stored of each run then."""
    environment = process_settings(service, folder, model_server) | FETCHING
    async with AsyncExitStack() as stack:
        starts = (
            serving(
                subfolder(folder, place),
                "worker",
                **environment,
                MAX_CONCURRENT_RUNS="1",
                FAILPOINTS=place if ":" in place else f"{place}:kill",
            )
            for place in places
        )
        workers = await asyncio.gather(*map(stack.enter_async_context, starts))
        nobody = await queue(RunLimits(max_concurrent=0))
        for _ in workers:
            await accept(service, nobody, kind, **BODIES[kind])
        async with asyncio.timeout(60):
            codes = [await worker.process.wait() for worker in workers]
    assert codes == [-signal.SIGKILL] * len(places)
    return [await death_of(service, model_server, place, run_taken(folder / place)) for place in places]


def run_taken(folder: Path) -> str:
    """The run that a worker took, by its log."""
    return RUN_TAKEN.findall((folder / "serve.log").read_text())[0]


async def death_of(service: Service, model_server: ModelServer, place: str, execution_id: str) -> Death:
    """The stored part of a run whose worker has died; its lease expires at once."""
    tree = await tree_of(service, execution_id)
    events = await all_events(service, execution_id)
    calls = sum(call.execution_id in tree for call in model_server.calls)
    takeovers = (await stored(service, execution_id)).get("takeovers") or 0
    if not has_ended(events):
        await expire(service, execution_id)
    return Death(execution_id, place, events, calls, takeovers)


def has_ended(events: list[Json]) -> bool:
    """Whether the root's end is among its tree's events."""
    return bool(events) and events[-1]["type"] == "agent-complete" and is_of_root(events[-1])


def is_of_root(event: Json) -> bool:
    return event["executionId"] == event["rootExecutionId"]


async def tree_of(service: Service, root_id: str) -> set[str]:
    """The ids of a run's executions."""
    found = service.services.database["agent-executions"].find({"rootExecutionId": root_id}, {"executionId": 1})
    return {raw["executionId"] async for raw in found}


def answered(events: list[Json]) -> Fraction:
    """How many model calls the events hold the answers of; outputs that are judged together share one."""
    return sum((Fraction(1, event.get("judgedTogether", 1)) for event in events if "usage" in event), Fraction())


async def check_that_nothing_was_done_twice(service: Service, model_server: ModelServer, death: Death) -> list[Json]:
    """The events of an ended run, which continue those at the death."""
    document = await finished(service, death.execution_id)
    events = await all_events(service, death.execution_id)
    tree = await tree_of(service, death.execution_id)
    calls = sum(call.execution_id in tree for call in model_server.calls)

    assert document["status"] == "completed", death.place
    assert document["takeovers"] == death.takeovers + (0 if has_ended(death.events) else 1), death.place
    assert gapless(events), death.place
    assert events[: len(death.events)] == death.events, death.place
    assert calls - death.calls == answered(events) - answered(death.events), death.place
    endings = Counter(event["executionId"] for event in of_type(events, "agent-complete"))
    assert endings == dict.fromkeys(tree, 1), death.place
    return events


def call_everything(call: Call) -> str | Raw:
    if call.tool_results:
        return "Done."
    run = {"run": call.execution_id}
    return completion("Hm.", ("notify", run), ("ringAgain", run), ("echo", run))


@pytest.mark.slow
async def test_a_run_of_an_agent_is_finished_wherever_its_worker_died(
    service: Service, model_server: ModelServer, start_process: StartProcess, bells: WebServer, tmp_path: Path
) -> None:
    model_server.on("work", call_everything)

    deaths = await die_at([*OF_WORKERS, *LATER], "agent", service, tmp_path, model_server, start_process)
    async with serving(tmp_path, "worker", **process_settings(service, tmp_path, model_server), **FETCHING):
        for death in deaths:
            events = await check_that_nothing_was_done_twice(service, model_server, death)
            kinds = Counter(event["type"] for event in events if event["type"] != "agent-retry")
            rung = Counter(
                name
                for name in EFFECTS
                for request in bells.requests
                if request.startswith(f"GET /{name}/{death.execution_id} ".encode())
            )
            outputs = {event["toolName"]: event["output"] for event in of_type(events, "tool-result")}

            assert kinds == {
                "agent-start": 1,
                "agent-thinking": 1,
                "tool-call": 3,
                "tool-result": 3,
                "agent-response": 1,
                "agent-complete": 1,
            }, death.place
            assert rung["notify"] <= 1, death.place
            assert outputs["ringAgain"] == NOT_FOUND, death.place
            if "error" in str(outputs["notify"]):
                assert outputs["notify"]["error"]["code"] == "outcome-unknown", death.place
                assert any(event.get("toolName") == "notify" for event in death.events), death.place
            else:
                assert rung["notify"] == 1, death.place
    assert {death.place.partition(":")[0] for death in deaths} == set(OF_WORKERS)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["department", "orchestration"])
async def test_a_run_of_many_is_finished_whichever_model_call_its_worker_died_after(
    service: Service, model_server: ModelServer, start_process: StartProcess, tmp_path: Path, kind: str
) -> None:
    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", []), (CYD, "C", [ADA])))

    places = [f"after-model-call:kill:{number}" for number in range(1, 11)]
    deaths = await die_at(places, kind, service, tmp_path, model_server, start_process)
    async with serving(tmp_path, "worker", **process_settings(service, tmp_path, model_server), **FETCHING):
        for death in deaths:
            await check_that_nothing_was_done_twice(service, model_server, death)

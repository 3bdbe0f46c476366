"""Any interleaving of decisions, expiry, crashes, takeovers, restarts and cancels: what was approved runs, once.

The trees have parallel specialists, one that builds on another, and a head that calls tools for its report; in some
the department is a part of an orchestration. Processes
are run engines of their own on a real database; models and tools answer in this process.
"""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.events.log.full_events import tree_events
from app.models.approval import Approval, ApprovalStatus
from app.models.catalog.custom_tool import CustomTool, ToolSource
from app.services.llm.calls import Completion, ModelRequest, RequestedToolCall, TokenUsage
from app.services.runs.approvals.errors import ApprovalConflict
from app.services.runs.approvals.store import ApprovalStore, Decision
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.engine.timings import Timings
from app.services.tools.builtin import BuiltinTool, builtin_tool
from tests.fixtures.model_server import Call, Json, all_goes_well, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    CYD,
    DEPARTMENT,
    HEAD,
    LONG_AGO,
    TERMINAL,
    Catalog,
    accept,
    die,
    gapless,
    of_type,
    stored,
)
from tests.fixtures.services import Service

pytestmark = pytest.mark.usefixtures("lone_processes")
QUICK = Timings(renew_every_seconds=0.5, watch_every_seconds=0.1, look_every_seconds=0.1)
END_SECONDS = 120
ONCE, AGAIN = "actOnce", "actAgain"
CALLS = {ADA: (ONCE, AGAIN), BOB: (ONCE,), CYD: (AGAIN,), HEAD: (ONCE,)}
"""The calls that each agent makes in its first turn."""
SCHEMA: Json = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}


class Step(StrEnum):
    """Something that happens to a tree."""

    APPROVE = "approve"
    EDIT = "edit"
    DECLINE = "decline"
    EXPIRE = "expire"
    CRASH = "crash"
    TAKE_OVER = "take over"
    RESTART = "restart"
    CANCEL = "cancel"
    WAIT = "wait"


DECISIONS = (Step.APPROVE, Step.EDIT, Step.DECLINE)
STEPS = st.sampled_from([*Step, *DECISIONS, Step.CRASH, Step.WAIT])
SCHEDULES = st.lists(st.tuples(STEPS, st.integers(0, 7)), max_size=10).filter(
    lambda steps: sum(step is Step.CANCEL for step, _ in steps) <= 1
)


def search(examples: int) -> settings:
    """A search of so many schedules; a finding is printed as found, because each try to shrink it is a run."""
    unharmed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    return settings(max_examples=examples, deadline=None, suppress_health_check=unharmed, phases=phases)


class ScriptedModels:
    """Models that answer in this process: each agent calls its tools in the first turn, and then is done."""

    def __init__(self) -> None:
        self.plans = 0

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request."""
        await asyncio.sleep(0)
        purpose = request.purpose.value
        body: Json = {"response_format": request.response_format}
        call = Call(request.model, purpose, request.execution_id, request.messages, [], body, {})
        agent = next((name for name in CALLS if call.is_from(name)), None)
        tools: tuple[RequestedToolCall, ...] = ()
        text = ""
        if agent is not None and request.tools and purpose in ("work", "report") and not call.tool_results:
            tools = tuple(
                RequestedToolCall(f"call_{agent}_{place}", name, f'{{"key": "{agent} {place}"}}')
                for place, name in enumerate(CALLS[agent])
            )
        elif purpose == "plan":
            self.plans += 1
            text = plan_of((ADA, "A", []), (BOB, "B", []), (CYD, "C", [ADA]))
        else:
            text = str(all_goes_well(call))
        return Completion(text, tools, TokenUsage(1, 1), 0.0, "scripted")


class Effects:
    """The effects of the tools: every call with its execution and input."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

    def tool(self, name: str, *, idempotent: bool) -> BuiltinTool:
        """A tool that records its calls."""

        async def act(tool_input: dict[str, Any], context: Mapping[str, Any]) -> object:
            self.made.append((str(context["executionId"]), tool_input["key"]))
            await asyncio.sleep(0.002)
            return {"done": tool_input["key"]}

        return builtin_tool(name=name, description=name, input_schema=SCHEMA, idempotent=idempotent)(act)


class World:
    """A tree, the processes that may run it, and what happens to them."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service = service
        self.random = Random(seed)  # noqa: S311 - repeatable
        self.models, self.effects = ScriptedModels(), Effects()
        self.store = ApprovalStore(service.services.database)
        self.engines: list[RunEngine] = []
        self.root_id = ""
        self.lost_plans = 0
        tools = [self.effects.tool(ONCE, idempotent=False), self.effects.tool(AGAIN, idempotent=True)]
        own = service.services.engine.context
        toolbox = dataclasses.replace(own.tools, builtins={tool.name: tool for tool in tools})
        self.context = dataclasses.replace(own, models=self.models, tools=toolbox, budgets=None)

    async def start_engine(self) -> RunEngine:
        """Start a process."""
        parts = self.service.services
        loader, outbox = parts.engine.loader, parts.engine.outbox
        engine = RunEngine(parts.database, parts.bus, loader, self.context, outbox, RunLimits(), QUICK)
        await engine.start()
        self.engines.append(engine)
        return engine

    async def begin(self) -> None:
        """Start two processes, and the tree in one of them."""
        first = await self.start_engine()
        await self.start_engine()
        kind = self.random.choice(("department", "department", "orchestration"))
        departments = {"departments": [DEPARTMENT]} if kind == "orchestration" else {}
        self.root_id = await accept(self.service, first, kind, **departments)

    async def pending(self) -> list[Approval]:
        """The approvals that wait, in the order of their calls."""
        wanted = {"rootExecutionId": self.root_id, "status": "pending"}
        found = self.service.services.database["agent-approvals"].find(wanted)
        return sorted([Approval.model_validate(raw) async for raw in found], key=lambda one: one.tool_call_id)

    async def take(self, step: Step, choice: int) -> None:
        """Let something happen."""
        match step:
            case Step.WAIT:
                await asyncio.sleep(self.random.random() * 0.06)
            case Step.CRASH | Step.RESTART | Step.TAKE_OVER:
                await self.disturb(step)
            case Step.CANCEL:
                await self.engines[choice % len(self.engines)].cancel(self.root_id)
            case Step.EXPIRE:
                if waiting := await self.pending():
                    await self.expire(waiting[choice % len(waiting)])
            case Step.APPROVE | Step.EDIT | Step.DECLINE:
                for _ in range(10):
                    if waiting := await self.pending():
                        await self.decide(waiting[choice % len(waiting)], step)
                        return
                    await asyncio.sleep(0.005)

    async def disturb(self, step: Step) -> None:
        """Let the tree's owner die, stop, or be taken for dead while it still works."""
        self.lost_plans += 1
        owner = await self.owner()
        if step is Step.TAKE_OVER:
            if owner is not None:
                await self.drop_lease(owner.leases.owner)
            return
        victim = owner or self.engines[0]
        self.engines.remove(victim)
        if step is Step.CRASH:
            await die(victim)
            if owner is not None:
                await self.drop_lease(owner.leases.owner)
        else:
            await victim.stop(0)
        await self.start_engine()

    async def owner(self) -> RunEngine | None:
        """The process that holds the tree's lease."""
        lease = (await stored(self.service, self.root_id)).get("lease") or {}
        return next((one for one in self.engines if one.leases.owner == lease.get("owner")), None)

    async def drop_lease(self, owner: str) -> None:
        """Let a lease run out unless another process holds it by now; takeovers are not counted, so that the tree is
        never given up.
        """
        executions = self.service.services.database["agent-executions"]
        held = {"executionId": self.root_id, "lease.owner": owner}
        await executions.update_one(held, {"$set": {"lease.until": LONG_AGO, "takeovers": 0}})

    async def expire(self, approval: Approval) -> None:
        """Let the time of an approval pass."""
        approvals = self.service.services.database["agent-approvals"]
        await approvals.update_one({"approvalId": approval.approval_id}, {"$set": {"expiresAt": LONG_AGO}})
        for root_id in await self.store.expire_due(LONG_AGO + timedelta(seconds=1)):
            self.engines[0].continue_decided(root_id)

    async def decide(self, approval: Approval, step: Step) -> None:
        """Decide like a person; someone else may be faster."""
        status = ApprovalStatus.DECLINED if step is Step.DECLINE else ApprovalStatus.APPROVED
        edited = {"key": f"edited {approval.input['key']}"} if step is Step.EDIT else None
        person = {"type": "api-key", "name": "someone"}
        decision = Decision(status, approval.input_digest, person, edited_input=edited)
        try:
            await self.store.decide(approval.approval_id, decision, datetime.now(UTC))
        except ApprovalConflict:
            return
        if self.random.random() < 0.9:  # the others are found without a hint
            self.random.choice(self.engines).continue_decided(approval.root_execution_id)

    async def end(self) -> Json:
        """Decide on whatever is left until the tree has ended."""
        async with asyncio.timeout(END_SECONDS):
            while True:
                document = await stored(self.service, self.root_id)
                if document["status"] in TERMINAL:
                    return document
                for approval in await self.pending():
                    await self.decide(approval, self.random.choice((Step.APPROVE, Step.DECLINE)))
                lease = document.get("lease") or {"owner": ""}
                if lease["owner"] not in ("", *(one.leases.owner for one in self.engines)):
                    await self.drop_lease(lease["owner"])
                await asyncio.sleep(0.05)

    async def check(self, document: Json) -> None:
        """Assert what holds for every ended tree."""
        found = self.service.services.database["agent-approvals"].find({"rootExecutionId": self.root_id})
        approvals = [Approval.model_validate(raw) async for raw in found]
        approved = {
            (one.execution_id, effective(one)): one.tool_name
            for one in approvals
            if one.status is ApprovalStatus.APPROVED
        }
        made = Counter(self.effects.made)
        assert made.keys() <= approved.keys()
        assert [call for call, count in made.items() if count > 1 and approved[call] == ONCE] == []
        assert all(one.status is not ApprovalStatus.PENDING for one in approvals)
        assert len({(one.execution_id, one.tool_call_id) for one in approvals}) == len(approvals)
        database = self.service.services.database
        events = [event async for _, event in tree_events(database, self.root_id)]
        assert gapless(events)
        if document["status"] != "cancelled":
            assert document["status"] == "completed", document["error"]
            assert made.keys() | lost_in(approvals, events) == approved.keys()
            check_results(approvals, events)
            assert self.models.plans <= 1 + self.lost_plans


def effective(approval: Approval) -> str:
    """The key of the input with which a call was approved."""
    return (approval.edited_input or approval.input)["key"]


def results_of(events: list[Json]) -> dict[tuple[str, str], Json]:
    """The outputs of a tree's calls."""
    return {(event["executionId"], event["toolCallId"]): event["output"] for event in of_type(events, "tool-result")}


def lost_in(approvals: list[Approval], events: list[Json]) -> set[tuple[str, str]]:
    """The approved calls whose outcome a crash has hidden: they may or may not have been made."""
    results = results_of(events)
    unknown = [one for one in approvals if "error" in results[one.execution_id, one.tool_call_id]]
    return {(one.execution_id, effective(one)) for one in unknown if one.status is ApprovalStatus.APPROVED}


def check_results(approvals: list[Approval], events: list[Json]) -> None:
    """Every call has one result, which is what its decision says."""
    results = results_of(events)
    assert len(results) == len(of_type(events, "tool-result")) == sum(map(len, CALLS.values())) == len(approvals)
    codes = {ApprovalStatus.DECLINED: "declined", ApprovalStatus.EXPIRED: "approval-expired"}
    for one in approvals:
        output = results[one.execution_id, one.tool_call_id]
        if one.status in codes:
            assert output["error"]["code"] == codes[one.status]
        elif "error" in output:
            assert (one.tool_name, output["error"]["code"]) == (ONCE, "outcome-unknown")
        else:
            assert output == {"done": effective(one)}


@pytest.fixture
async def actors(service: Service, catalog: Catalog) -> AsyncGenerator[Service]:
    """The service, whose agents have two tools that people must approve."""
    for name, idempotent in ((ONCE, False), (AGAIN, True)):
        tool = CustomTool(
            tool_name=name,
            input_schema=SCHEMA,
            is_global=True,
            idempotent=idempotent,
            requires_approval=True,
            source=ToolSource.BUILTIN,
        )
        await tool.insert()
    rows = [{"toolName": name, "id": "0" * 24} for name in (ONCE, AGAIN)]
    for agent_id in CALLS:
        await catalog.edit_agent(agent_id, toolNames=rows)
    yield service
    await service.services.database["custom-tools"].delete_many({"toolName": {"$in": [ONCE, AGAIN]}})


async def live_through(service: Service, steps: list[tuple[Step, int]], seed: int) -> None:
    """One schedule, and what holds after it."""
    world = World(service, seed)
    try:
        await world.begin()
        for step, choice in steps:
            await world.take(step, choice)
        await world.check(await world.end())
    finally:
        for engine in world.engines:
            await die(engine)


@search(100)
@given(SCHEDULES, st.integers(0, 2**16))
async def test_approved_calls_run_at_most_once_and_no_other_call_runs(
    actors: Service, steps: list[tuple[Step, int]], seed: int
) -> None:
    await live_through(actors, steps, seed)


@pytest.mark.long
@search(2000)
@given(SCHEDULES, st.integers(0, 2**16))
async def test_many_schedules_follow_the_decisions_of_people(
    actors: Service, steps: list[tuple[Step, int]], seed: int
) -> None:
    await live_through(actors, steps, seed)

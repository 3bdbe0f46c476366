"""Every kind of run against every provider's twin, plain and streamed.

A run passes when it ends as it should and no twin had anything to refuse, except what the service can only learn from
a refusal. The short suite runs a few pairs; `make test-long` runs the others.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fixtures.model_server import Json, review
from tests.fixtures.provider_runs import refused
from tests.fixtures.providers.brain import (
    Answer,
    Ask,
    Damaged,
    Reply,
    ToolUse,
    all_goes_well,
    always_uses,
    first_then,
    uses_tools,
)
from tests.fixtures.providers.faults import Fault
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer
from tests.fixtures.runs import (
    ADA,
    BOB,
    DEPARTMENT,
    SPECIALISTS,
    Catalog,
    Gate,
    StartProcess,
    accept,
    die,
    expire,
    finished,
    of_type,
    stored_once,
    tree_of,
)
from tests.fixtures.services import PROJECT, Service
from tests.fixtures.waiting import wait_until

ECHO = ToolUse("echo", {"n": 1})
PARALLEL = (ECHO, ToolUse("echo", {"n": 2}), ToolUse("textStatistics", {"text": "One two three."}))


@dataclass(frozen=True)
class Stand:
    """The parts of a scenario: the service, the twins, and the model to run on."""

    service: Service
    twins: ProviderServer
    catalog: Catalog
    gate: Gate
    model: str

    async def run(self, **body: Any) -> Json:  # noqa: ANN401 - any field of the body
        """Run Ada on the model, to the end."""
        return await self.service.run_agent(ADA, **{"model": self.model, "judge": False, **body})

    async def start(self, **body: Any) -> str:  # noqa: ANN401 - any field of the body
        """Start a run of Ada on the model; its id."""
        asked = {"prompt": "Write.", "project": PROJECT, "model": self.model, "judge": False, **body}
        answer = await self.service.http.post(f"/api/v1/agents/{ADA}/runs", json=asked)
        assert answer.status_code == 202, answer.text
        return answer.json()["executionId"]

    async def waits_after_tools(self, ask: Ask) -> Reply:
        """A script: a tool call, then an answer that waits at the gate the first time."""
        if not ask.results:
            return Answer("Let me see.", (ECHO,))
        if not self.gate.waiting:
            await self.gate.passed("")
        return Answer("Done.")


Scenario = Callable[[Stand], Awaitable[None]]


async def run_with_tools(stand: Stand) -> None:
    """An agent run with a tool call, judged."""
    stand.twins.on("work", uses_tools(ECHO, text="Let me see."))

    done = await stand.run(judge=True)

    assert (done["status"], done["output"]) == ("completed", {"text": "Done.", "data": None}), done["error"]
    assert done["qualityScore"] == 90.0
    assert len(stand.twins.asks_for("work")) == 2


async def run_with_parallel_tools(stand: Stand) -> None:
    """Three calls in one turn."""
    stand.twins.on("work", uses_tools(*PARALLEL))

    done = await stand.run()

    assert done["status"] == "completed", (done["error"], stand.twins.violations)
    events = await stand.service.events(done["executionId"])
    assert [event["toolName"] for event in of_type(events, "tool-call")] == ["echo", "echo", "textStatistics"]
    assert [event["input"] for event in of_type(events, "tool-call")] == [use.arguments for use in PARALLEL]
    assert not any("error" in (event["output"] or {}) for event in of_type(events, "tool-result"))


async def run_to_the_last_step(stand: Stand) -> None:
    """A model that never stops calling tools by itself."""
    await stand.catalog.edit_agent(ADA, maxAgentSteps=3)
    stand.twins.on("work", always_uses(ECHO))

    done = await stand.run()

    assert (done["status"], done["stopReason"]) == ("completed", "max-steps"), done["error"]


async def continue_a_run(stand: Stand) -> None:
    """A second run on the conversation of the first, both with tools."""
    stand.twins.on("work", uses_tools(*PARALLEL, text="Let me see."))
    first = await stand.run()

    second = await stand.run(previousExecutionId=first["executionId"], prompt="And now?")

    assert (second["status"], second["output"]["text"]) == ("completed", "Done."), second["error"]


async def cancel_and_continue(stand: Stand) -> None:
    """A run that is cancelled between a tool's result and the answer, and gone on from."""
    stand.twins.on("work", stand.waits_after_tools)
    execution_id = await stand.start()
    await wait_until(lambda: stand.gate.waiting == 1)
    await stand.service.http.post(f"/api/v1/executions/{execution_id}/cancel")
    await finished(stand.service, execution_id)

    done = await stand.run(previousExecutionId=execution_id, prompt="Continue.")

    assert (done["status"], done["output"]["text"]) == ("completed", "Done."), done["error"]


async def retry_from_a_checkpoint(stand: Stand) -> None:
    """A run that fails after a tool's result, tried again from there."""
    stand.twins.on("work", first_then(Answer("Hm.", (ECHO,)), Fault.SERVER_ERROR, "Done."))
    failed = await stand.run()
    assert failed["status"] == "failed"

    path = f"/api/v1/executions/{failed['executionId']}/retry"
    done = (await stand.service.http.post(path, headers={"Prefer": "wait=20"})).json()

    assert (done["status"], done["output"]["text"]) == ("completed", "Done."), done["error"]
    assert len(stand.twins.asks_for("work")) == 3


async def take_over_in_mid_turn(stand: Stand, start_process: StartProcess) -> None:
    """A run whose process dies while the model has its tools' results."""
    stand.twins.on("work", stand.waits_after_tools)
    first = await start_process()
    execution_id = await accept(stand.service, first, "agent", model=stand.model, judge=False)
    await wait_until(lambda: stand.gate.waiting == 1)
    await stored_once(stand.service, execution_id, lambda document: document["lastSeq"] == 4)

    await die(first)
    await expire(stand.service, execution_id)
    await start_process()
    document = await finished(stand.service, execution_id)

    assert (document["status"], document["takeovers"]) == ("completed", 1), document.get("error")


async def run_a_department(stand: Stand) -> None:
    """A plan, specialists with tools, one sent back, judgments, reviews, a report."""
    sent_back: set[str] = set()

    def reviewing(ask: Ask) -> Reply:
        if f"({BOB})" in ask.text and not sent_back:
            sent_back.add(BOB)
            return Answer(review("revision-needed", "Shorter."))
        return all_goes_well(ask)

    stand.twins.on("work", uses_tools(ECHO, text="Let me see."))
    stand.twins.on("review", reviewing)

    done = await stand.service.run_department(DEPARTMENT, model=stand.model)

    assert done["status"] == "completed", done["error"]
    tree = await tree_of(stand.service, done["executionId"])
    assert [(child["agent"], child["status"], child["reviewStatus"]) for child in tree["children"]] == [
        (agent, "completed", "approved") for agent in SPECIALISTS
    ]
    assert [child["qualityScore"] for child in tree["children"]] == [90.0] * 3
    assert sent_back == {BOB}
    events = await stand.service.events(done["executionId"])
    plans = [event["plan"] for event in of_type(events, "agent-thinking") if "plan" in event]
    assert [plan["rationale"] for plan in plans] == ["Because."]


async def judge_with_wrapped_json(stand: Stand) -> None:
    """A structured answer inside thoughts, prose and a fence."""
    stand.twins.on("judge", lambda ask: Damaged(Fault.WRAPPED, all_goes_well(ask)))

    done = await stand.run(judge=True)

    assert (done["status"], done["qualityScore"]) == ("completed", 90.0), done["error"]
    assert len(stand.twins.asks_for("judge")) == 1


SCENARIOS: tuple[Scenario, ...] = (
    run_with_tools,
    run_with_parallel_tools,
    run_to_the_last_step,
    continue_a_run,
    cancel_and_continue,
    retry_from_a_checkpoint,
    run_a_department,
    judge_with_wrapped_json,
)
QUICK = run_with_parallel_tools
"""Run on every twin in the short suite too, streamed; the other kinds on one twin alone, plain."""
QUICK_TWIN = "anthropic-thinking"


MODELS = [f"{name}{suffix}" for name in TWINS for suffix in ("", "-streamed")]


def pairs() -> list[Any]:
    """Scenario and model, each pair of them."""
    return [
        pytest.param(scenario, model, id=f"{scenario.__name__}-{model}", marks=marks_of(is_quick(scenario, model)))
        for scenario in SCENARIOS
        for model in MODELS
    ]


def is_quick(scenario: Scenario, model: str) -> bool:
    """Whether a pair belongs to the short suite."""
    return scenario is QUICK if model.endswith("-streamed") else model == QUICK_TWIN


def marks_of(quick: bool) -> Any:  # noqa: ANN401 - pytest's own
    """The marks of a test."""
    return () if quick else pytest.mark.long


@pytest.fixture
def stand(service: Service, provider_server: ProviderServer, catalog: Catalog, gate: Gate, model: str) -> Stand:
    """The parts of a scenario."""
    return Stand(service, provider_server, catalog, gate, model)


@pytest.mark.parametrize(("scenario", "model"), pairs())
async def test_a_run_passes_on_a_providers_twin(scenario: Scenario, stand: Stand) -> None:
    await scenario(stand)

    assert refused(stand.twins) == []


@pytest.mark.usefixtures("lone_processes")
@pytest.mark.parametrize("model", [pytest.param(model, marks=marks_of(model == QUICK_TWIN)) for model in MODELS])
async def test_a_run_passes_on_a_providers_twin_after_a_takeover(stand: Stand, start_process: StartProcess) -> None:
    await take_over_in_mid_turn(stand, start_process)

    assert refused(stand.twins) == []


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "-streamed"])
@pytest.mark.parametrize("order", [1, -1], ids=["forwards", "backwards"])
async def test_a_conversation_moves_from_provider_to_provider(
    suffix: str, order: int, service: Service, provider_server: ProviderServer
) -> None:
    provider_server.on("work", uses_tools(*PARALLEL, text="Let me see."))
    previous: Json = {}

    for name in [*TWINS][::order]:
        done = await service.run_agent(ADA, model=f"{name}{suffix}", judge=False, **previous)

        assert done["status"] == "completed", (name, provider_server.violations)
        previous = {"previousExecutionId": done["executionId"]}
    assert refused(provider_server) == []

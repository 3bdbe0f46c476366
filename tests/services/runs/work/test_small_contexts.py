"""Long runs on models with a small context: no request goes beyond it, and the record keeps everything."""

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from app.models.catalog.agent import Agent, ToolNameRow
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.context.window import ContextRules, ContextWindow
from app.services.runs.work.model_calls import with_fence
from app.services.runs.work.state import ExecutionState
from app.settings import CATALOG_MODELS
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, fault
from tests.fixtures.runs import all_events, of_type
from tests.fixtures.services import Service, StartService

pytestmark = pytest.mark.slow

WINDOW = 32_000
RESULT_BYTES = 64 * 1024
READER = "reader-001"
UNSIZED_MODEL = "openai/gpt-4"
"""Of this one nothing is known."""


def tokens_in(call: Call) -> int:
    """The server's token count: four bytes of a request's messages and tools are a token."""
    counted = {name: call.body[name] for name in ("messages", "tools") if name in call.body}
    return len(json.dumps(counted, ensure_ascii=False).encode()) // 4


class CountingModel:
    """A model that calls a tool so many times, then answers, and refuses what is longer than its context."""

    def __init__(self, window: int, turns: int) -> None:
        self.window = window
        self.turns = turns
        self.refused = 0
        self.largest = 0

    def __call__(self, call: Call) -> Reply:
        tokens = tokens_in(call)
        if tokens > self.window:
            self.refused += 1
            return fault(400, f"This model's maximum context length is {self.window} tokens, not {tokens}.")
        self.largest = max(self.largest, tokens)
        self.turns -= 1
        whole = completion("Done.") if self.turns < 0 else completion(None, ("longText", {"n": self.turns}))
        whole["usage"] = {"prompt_tokens": tokens, "completion_tokens": 5, "total_tokens": tokens + 5}
        return whole


@pytest.fixture
async def small(start_service: StartService, model_server: ModelServer, tmp_path: Path) -> AsyncGenerator[Service]:
    """A service whose models take 32,000 tokens, with an agent whose tool gives 64 KiB."""
    rows = [
        {
            "model_name": name,
            "litellm_params": {"model": "openai/scripted", "api_base": f"{model_server.url}/v1", "api_key": "key"},
            **({} if name == UNSIZED_MODEL else {"model_info": {"max_input_tokens": WINDOW}}),
        }
        for name in CATALOG_MODELS
    ]
    config = tmp_path / "models.yaml"
    config.write_text(yaml.safe_dump({"model_list": rows, "router_settings": {"num_retries": 0}}))
    async with start_service(models_config=config) as running:
        department = Department(slug="readers", name="Readers")
        await department.insert()
        code = f"(input) => `${{input.n}}:` + 'word '.repeat({RESULT_BYTES // 5})"
        await CustomTool(tool_name="longText", description="Reads.", execute_function=code, is_global=True).insert()
        await Agent(
            agent_id=READER,
            name="Reader",
            department=department.id,
            model="anthropic/claude-sonnet-4.5",
            instructions_prompt="You are a reader.",
            max_agent_steps=100,
            tool_names=[ToolNameRow(tool_name="longText", id=str(department.id))],
        ).insert()
        yield running


async def run_reader(service: Service, **body: object) -> Json:
    """A run of the reader to its end, which takes longer than a request waits."""
    run = await service.run_agent(READER, judge=False, **body)
    assert run["status"] == "completed", run["error"]
    return run


@pytest.mark.long
async def test_two_hundred_turns_with_long_results_stay_within_a_window_of_32_000_tokens(
    small: Service, model_server: ModelServer
) -> None:
    model = CountingModel(WINDOW, turns=0)
    model_server.on("work", model)
    previous: Json = {}
    runs: list[str] = []

    for turns in (50, 50, 50, 50):
        model.turns = turns
        body = {"previousExecutionId": previous["executionId"]} if previous else {}
        previous = await run_reader(small, prompt=f"Task {len(runs)}.", **body)
        runs.append(previous["executionId"])

    assert model.refused == 0
    assert len(model_server.calls) == 204
    assert model.largest > WINDOW / 3
    events = await all_events(small, runs[-1])
    omitted = [event["omitted"] for event in of_type(events, "tool-call")]
    assert omitted[-1]["turns"] >= omitted[0]["turns"] > 100
    assert omitted[-1]["toolResults"] > 0
    last = model_server.calls[-1].messages
    assert [one["role"] for one in last[:2]] == ["system", "user"]
    assert "You are a reader." in last[0]["content"]
    assert {"role": "user", "content": "Task 3."} in last
    results = of_type(events, "tool-result")
    path = f"/api/v1/executions/{runs[-1]}/events/{results[-1]['seq']}"
    assert len((await small.http.get(path)).json()["output"]) > RESULT_BYTES - 10


async def test_a_process_that_takes_over_at_any_turn_sends_the_same_requests(
    small: Service, model_server: ModelServer
) -> None:
    model = CountingModel(WINDOW, turns=12)
    model_server.on("work", model)

    run = await run_reader(small)

    events = await all_events(small, run["executionId"])
    for event in events:
        if event.get("truncated"):
            answer = await small.http.get(f"/api/v1/executions/{run['executionId']}/events/{event['seq']}")
            event |= answer.json()
    opening = run["runState"]["messages"][:2]
    context = small.services.engine.context
    assert isinstance(context.context_rules, ContextRules)
    state = ExecutionState(max_revisions=1)
    calls = iter(model_server.calls)
    for event in events:
        if event.get("usage"):
            request = request_of(run, opening, state, next(calls).body["tools"])
            sent = ContextWindow(context.context_rules).fit(request).request.messages
            assert [texts_of(with_fence(one)) for one in sent] == [
                texts_of(one) for one in model_server.calls[state.step].messages
            ]
        state.apply(event)
    assert next(calls, None) is None
    assert model.refused == 0


def request_of(run: Json, opening: list[Json], state: ExecutionState, tools: list[Json]) -> ModelRequest:
    """The next request of a run, as its events say."""
    return ModelRequest(
        "anthropic/claude-sonnet-4.5",
        [*opening, *state.turns],
        RunPurpose.WORK,
        run["executionId"],
        tools=tools,
        task=1,
        mark=replace(state.mark, messages=state.mark.messages + len(opening)),
    )


def texts_of(message: Json) -> tuple[str, str, list[str]]:
    """The text of a message."""
    calls = [call["id"] for call in message.get("tool_calls") or ()]
    return message["role"], message.get("content") or "", calls


async def test_an_overflow_of_a_model_of_unknown_size_is_met_once_by_a_shorter_request(
    small: Service, model_server: ModelServer
) -> None:
    model = CountingModel(20_000, turns=4)
    model_server.on("work", model)

    run = await run_reader(small, model=UNSIZED_MODEL)

    events = await all_events(small, run["executionId"])
    retries = of_type(events, "agent-retry")
    assert model.refused == 1
    assert [(event["reason"], event["attempt"]) for event in retries] == [("model-context-exceeded", 1)]
    assert of_type(events, "agent-response")[-1]["omitted"]["contextTokens"] <= 20_000
    assert len(run["runState"]["messages"]) == 2 + 4 * 2 + 1


async def test_a_task_that_no_request_can_hold_fails_with_what_to_do(small: Service, model_server: ModelServer) -> None:
    model_server.on("work", CountingModel(2_000, turns=0))

    run = await small.run_agent(READER, judge=False, model=UNSIZED_MODEL, prompt="word " * 10_000)

    assert (run["status"], run["error"]["code"]) == ("failed", "model-context-exceeded")
    assert "larger context" in run["error"]["message"]


async def test_a_department_with_long_works_stays_within_the_window(small: Service, model_server: ModelServer) -> None:
    sizes: list[int] = []

    def counted(call: Call) -> Reply:
        sizes.append(tokens_in(call))
        return "## Summary\nGood.\n\n" + "long " * 9_000

    for purpose in ("work", "report"):
        model_server.on(purpose, counted)

    run = await small.run_department("story", judge=False)

    assert run["status"] == "completed", run["error"]
    assert len(sizes) > 3
    assert max(sizes) <= WINDOW

"""Traces of a service: one for each run, with the names of the conventions, and without content unless asked for."""

import json
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from beanie import init_beanie
from websockets.asyncio.client import connect

from app.database.connection import DOCUMENTS
from tests.fixtures.model_server import ModelServer, completion, fault, plan_of
from tests.fixtures.otlp_receiver import CLIENT, SERVER, OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.fixtures.services import ADMIN_KEY, PROJECT, Service, running_service, write_models_config
from tests.fixtures.waiting import wait_until

CALLER = "b7ad6b7169203331"
SECRET = "A lighthouse that only the client knows."
COUNT_WORDS = ("textStatistics", {"text": "One two."})


@dataclass(frozen=True)
class RunTrace:
    """A run of a client that has a trace of its own, and the spans of that trace."""

    run: dict[str, Any]
    trace_id: str
    collector: OtlpReceiver

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans, in the order of their beginnings."""
        return [span for span in self.collector.named("") if span.trace_id == self.trace_id]

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans whose name begins with this one."""
        return [span for span in self.spans if span.name.startswith(name)]

    def the(self, name: str) -> ReceivedSpan:
        """The only span of a name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, (name, [span.name for span in self.spans])
        return found[0]


@dataclass(frozen=True)
class Traced:
    """A service that records traces, and its collector."""

    service: Service
    collector: OtlpReceiver

    async def run(self, path: str, **body: Any) -> RunTrace:  # noqa: ANN401 - any field
        """Run something to its end."""
        trace_id = secrets.token_hex(16)
        headers = {"Prefer": "wait=30", "traceparent": f"00-{trace_id}-{CALLER}-01", "tracestate": "vendor=one"}
        body = {"prompt": SECRET, "project": PROJECT, "judge": False} | body
        answer = await self.service.http.post(f"/api/v1{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        traced = RunTrace(answer.json(), trace_id, self.collector)
        await wait_until(lambda: bool(traced.named("POST") and traced.named("invoke_agent")), 10)
        return traced


@pytest.fixture(scope="module")
async def traced_service(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Traced]:
    """The service behind `traced`."""
    folder = tmp_path_factory.mktemp("traced-service")
    config = write_models_config(folder / "models.yaml", shared_model_server.url)
    uri = mongod_uri.replace("/?", "/test_traces?")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        async with otlp_receiver() as collector:
            settings = {"models_config": config, "otel_exporter_otlp_endpoint": collector.url}
            async with running_service(uri, folder / "data", **settings) as service:
                yield Traced(service, collector)


@pytest.fixture
async def traced(traced_service: Traced, model_server: ModelServer) -> Traced:
    """The one service of this module's tests."""
    await init_beanie(
        database=traced_service.service.services.database, document_models=list(DOCUMENTS), skip_indexes=True
    )
    return traced_service


async def test_a_run_s_spans_have_the_names_and_facts_of_the_conventions(
    traced: Traced, model_server: ModelServer
) -> None:
    model_server.on("work", lambda call: "Done." if call.tool_results else completion(None, COUNT_WORDS))

    run = await traced.run("/agents/theme-specialist-001/runs", conversationId="talk-1")

    request = run.the("POST /api/v1/agents/{agent_id}/runs")
    agent = run.the("invoke_agent theme-specialist-001")
    chats = run.named("chat ")
    tool = run.the("execute_tool textStatistics")
    assert len(run.spans) == 5
    assert (request.parent_id, request.kind) == (CALLER, SERVER)
    assert agent.parent_id == request.span_id
    assert {span.parent_id for span in (*chats, tool)} == {agent.span_id}
    assert agent.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert agent.attributes["gen_ai.agent.id"] == "theme-specialist-001"
    assert agent.attributes["gen_ai.conversation.id"] == "talk-1"
    assert agent.attributes["gen_ai.usage.input_tokens"] == run.run["tokenUsage"]["input"] == 20
    assert agent.attributes["dynamic_agents.execution.status"] == "completed"
    assert [span.kind for span in chats] == [CLIENT, CLIENT]
    assert chats[0].attributes["gen_ai.operation.name"] == "chat"
    assert chats[0].attributes["gen_ai.provider.name"] == "openai"
    assert chats[0].name == f"chat {chats[0].attributes['gen_ai.request.model']}"
    assert [span.attributes["gen_ai.response.finish_reasons"] for span in chats] == [["tool_calls"], ["stop"]]
    assert (chats[0].attributes["gen_ai.usage.input_tokens"], chats[0].attributes["gen_ai.usage.output_tokens"]) == (
        10,
        5,
    )
    assert tool.attributes["gen_ai.tool.call.id"] == "call_1_textStatistics"
    assert agent.began <= chats[0].began <= chats[0].ended <= tool.began <= tool.ended <= chats[1].began <= agent.ended
    assert agent.resource["service.name"] == "dynamic-agents"


async def test_spans_hold_no_content_no_query_and_no_key(traced: Traced, model_server: ModelServer) -> None:
    model_server.on("work", lambda call: "Secret answer." if call.tool_results else completion(None, COUNT_WORDS))

    await traced.run("/agents/theme-specialist-001/runs?omit=params")
    await traced.service.http.get("/api/v1/executions", params={"search": "lighthouse-in-a-query"})
    await traced.collector.until("GET /api/v1/executions")

    everything = repr(traced.collector.spans)
    for text in (SECRET, "Secret answer.", "One two.", "lighthouse-in-a-query", "omit=params"):
        assert text not in everything


async def test_the_tree_of_a_department_is_one_trace_with_the_executions_as_parents(
    traced: Traced, model_server: ModelServer
) -> None:
    model_server.on("plan", plan_of(("plot-specialist-001", "Plot.", []), ("theme-specialist-001", "Theme.", [])))

    run = await traced.run("/departments/story/runs", judge=True)

    tree = (await traced.service.http.get(f"/api/v1/executions/{run.run['executionId']}/tree")).json()
    head = next(
        span
        for span in run.spans
        if span.attributes.get("dynamic_agents.execution.id") == run.run["executionId"]
        and span.name.startswith("invoke_agent")
    )
    specialists = [span for span in run.spans if span.name.startswith("invoke_agent") and span is not head]
    by_id = {span.span_id: span for span in run.spans}
    assert len(specialists) == 2
    assert {span.parent_id for span in specialists} == {head.span_id}
    for chat in run.named("chat "):
        parent = by_id[chat.parent_id]
        assert parent.attributes["dynamic_agents.execution.id"] == chat.attributes["dynamic_agents.execution.id"]
    purposes = {chat.attributes["dynamic_agents.model_call.purpose"] for chat in run.named("chat ")}
    assert {"plan", "work", "judge", "report"} <= purposes
    assert tree["status"] == "completed"


async def test_failed_calls_tools_and_runs_are_marked_with_their_codes(
    traced: Traced, model_server: ModelServer
) -> None:
    model_server.on(
        "work",
        lambda call: (
            fault(400, "Refused.")
            if call.tool_results
            else completion(None, ("textStatistics", {"text": 3}), ("no such tool \n", {}))
        ),
    )

    run = await traced.run("/agents/theme-specialist-001/runs")

    agent = run.the("invoke_agent theme-specialist-001")
    first, second = run.named("chat ")
    assert run.run["status"] == "failed"
    assert agent.failed
    assert agent.attributes["error.type"] == run.run["error"]["code"] == second.attributes["error.type"]
    assert (first.failed, second.failed) == (False, True)
    assert run.the("execute_tool textStatistics").attributes["error.type"] == "tool-input-invalid"
    assert run.the("execute_tool").attributes["error.type"] == "tool-not-granted"


async def test_a_review_and_the_revision_continue_the_trace_of_the_run(
    traced: Traced, model_server: ModelServer
) -> None:
    run = await traced.run("/agents/plot-specialist-001/runs")
    path = f"/api/v1/executions/{run.run['executionId']}/review"

    answer = await traced.service.http.post(path, json={"status": "revision-needed", "notes": "Shorter."})
    assert answer.status_code < 300, answer.text
    await wait_until(lambda: len(run.named("invoke_agent")) == 2, 10)
    await traced.collector.until("POST /api/v1/executions/{execution_id}/review")

    review, (_, again) = run.the("review"), run.named("invoke_agent")
    request = traced.collector.named("POST /api/v1/executions/{execution_id}/review")[0]
    assert request.trace_id != run.trace_id
    assert review.links == (request.trace_id,)
    assert run.named("chat ")[-1].parent_id == again.span_id


async def test_no_address_but_that_of_the_collector_receives_the_trace(
    traced: Traced, model_server: ModelServer
) -> None:
    await traced.run("/agents/plot-specialist-001/runs")

    assert [call.headers.get("traceparent") for call in model_server.calls] == [None]


async def test_probes_and_the_metrics_have_no_spans(traced: Traced) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/me"):
        await traced.service.http.get(path)
    await traced.collector.until("GET /api/v1/me")

    names = {span.name for span in traced.collector.spans}
    assert names.isdisjoint({"GET /healthz", "GET /readyz", "GET /metrics", "GET"})


async def test_sockets_and_streams_work_beside_traces(traced: Traced) -> None:
    run = await traced.run("/agents/plot-specialist-001/runs")
    execution_id = run.run["executionId"]
    headers = {"X-API-Key": ADMIN_KEY}

    async with connect(traced.service.websocket_url, additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "subscribe", "executionId": execution_id}))
        while json.loads(await socket.recv())["type"] != "execution-end":
            pass
    streamed = await traced.service.http.get(f"/api/v1/executions/{execution_id}/events/stream")

    assert "event: execution-end" in streamed.text
    await traced.collector.until("GET /api/v1/executions/{execution_id}/events/stream")


async def test_content_is_recorded_and_the_trace_passed_on_where_the_operator_asks_for_it(
    mongod_uri: str, tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "studio")
    model_server.on("work", lambda call: "The answer." if call.tool_results else completion(None, COUNT_WORDS))
    config = write_models_config(tmp_path / "models.yaml", model_server.url)
    config.write_text(config.read_text().replace("  model_name:", "  model_info: {trace_context: true}\n  model_name:"))
    uri = mongod_uri.replace("/?", "/test_traces_content?")
    async with otlp_receiver() as collector:
        settings = {"otel_exporter_otlp_endpoint": collector.url, "otel_capture_content": True}
        async with running_service(uri, tmp_path / "data", models_config=config, **settings) as service:
            run = await Traced(service, collector).run("/agents/theme-specialist-001/runs")

    agent = run.the("invoke_agent theme-specialist-001")
    tool = run.the("execute_tool textStatistics")
    chats = run.named("chat ")
    asked = json.loads(chats[1].attributes["gen_ai.input.messages"])
    prompt, answer = (json.loads(agent.attributes[f"gen_ai.{way}.messages"]) for way in ("input", "output"))
    assert prompt == [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]
    assert answer == [{"role": "assistant", "parts": [{"type": "text", "content": "The answer."}]}]
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"text": "One two."}
    assert "words" in json.loads(tool.attributes["gen_ai.tool.call.result"])
    assert [message["role"] for message in asked] == ["system", "user", "assistant", "tool"]
    assert asked[2]["parts"][0]["name"] == "textStatistics"
    assert [call.headers["traceparent"] for call in model_server.calls] == [
        f"00-{chat.trace_id}-{chat.span_id}-01" for chat in chats
    ]
    assert agent.resource["service.name"] == "studio"

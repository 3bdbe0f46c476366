# pyright: reportPrivateUsage=false
"""Model calls that fail for a while: tried again as often as MODELS_CONFIG says, and no oftener."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from app.services.llm.failures.errors import ModelAccessDenied, ModelRateLimited
from app.services.runs.work.model_calls import DEFAULT_PAUSES
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault, verdicts
from tests.fixtures.runs import of_type, pause_less, types_of
from tests.fixtures.services import PROJECT, Service, running_service, write_models_config

AGENT = "plot-specialist-001"
BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}


@asynccontextmanager
async def retrying_service(uri: str, folder: Path, model_url: str, **limits: float) -> AsyncGenerator[Service]:
    """A service that calls a model up to three times."""
    config = write_models_config(folder / "models.yaml", model_url, num_retries=2, disable_cooldowns=True)
    async with running_service(uri, folder / "data", models_config=config, **limits) as running:
        yield running


@pytest.fixture(scope="session")
async def patient_service(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Service]:
    """A service that waits for a model as long as any other does."""
    uri = mongod_uri.replace("/?", "/test_patient?")
    async with retrying_service(uri, tmp_path_factory.mktemp("patient-service"), shared_model_server.url) as running:
        yield running


@pytest.fixture
def patient(patient_service: Service, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Service:
    pause_less(patient_service, monkeypatch, 0.02)
    return patient_service


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code"), [(500, "model-unavailable"), (429, "model-rate-limited")])
async def test_a_passing_fault_is_tried_again_at_most_twice(
    patient: Service, model_server: ModelServer, status: int, code: str
) -> None:
    model_server.on("work", fault(status))

    done = await patient.run_agent(AGENT, judge=False)

    events = await patient.events(done["executionId"])
    assert (done["status"], done["error"]["code"]) == ("failed", code)
    assert len(model_server.calls) == 3
    assert types_of(events) == ["agent-start", "agent-retry", "agent-retry", "agent-error"]
    assert [(event["reason"], event["attempt"]) for event in of_type(events, "agent-retry")] == [(code, 1), (code, 2)]


async def test_a_fault_that_passes_costs_the_run_nothing(patient: Service, model_server: ModelServer) -> None:
    replies = iter([fault(503), "Done."])
    model_server.on("work", lambda _: next(replies))

    done = await patient.run_agent(AGENT, judge=False)

    assert (done["status"], done["output"]["text"]) == ("completed", "Done.")
    assert len(model_server.calls) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_failure_that_a_retry_cannot_fix_is_not_retried(
    patient: Service, model_server: ModelServer, status: int
) -> None:
    model_server.on("work", fault(status))

    done = await patient.run_agent(AGENT, judge=False)

    assert done["status"] == "failed"
    assert len(model_server.calls) == 1


async def test_an_answer_that_is_too_long_fails_the_run_and_is_paid_for_once(
    patient: Service, model_server: ModelServer
) -> None:
    model_server.on("work", "x" * 10_000_000)

    done = await patient.run_agent(AGENT, judge=False)

    assert (done["status"], done["error"]["code"]) == ("failed", "model-answer-invalid")
    assert len(model_server.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reasoning", [None, "I thought, and said nothing."])
async def test_an_empty_answer_is_requested_again_and_each_is_billed(
    patient: Service, model_server: ModelServer, reasoning: str | None, stream: bool
) -> None:
    empty = completion("")
    empty["choices"][0]["message"]["reasoning_content"] = reasoning
    replies = iter([empty, empty, "Done."])
    model_server.on("work", lambda _: next(replies))

    done = await patient.run_agent(AGENT, judge=False, deltas=stream)

    events = await patient.events(done["executionId"])
    assert (done["status"], done["output"]["text"]) == ("completed", "Done.")
    assert [(event["reason"], event["usage"]["total"]) for event in of_type(events, "agent-retry")] == [
        ("model-answer-invalid", 15),
        ("model-answer-invalid", 15),
    ]
    assert done["tokenUsage"]["total"] == 3 * 15


async def test_a_run_that_ends_with_an_empty_answer_has_paid_for_it_once(
    patient: Service, model_server: ModelServer
) -> None:
    model_server.on("work", completion(""))

    done = await patient.run_agent(AGENT, judge=False)

    events = await patient.events(done["executionId"])
    assert (done["status"], done["error"]["code"]) == ("failed", "model-answer-invalid")
    assert types_of(events) == ["agent-start", "agent-retry", "agent-retry", "agent-error"]
    assert (events[-1]["failedCall"]["usage"]["total"], events[-1]["tokenUsage"]["total"]) == (15, 3 * 15)
    assert done["tokenUsage"]["total"] == len(model_server.calls) * 15


async def test_a_judge_that_answers_nothing_is_paid_for(patient: Service, model_server: ModelServer) -> None:
    model_server.on("judge", completion(""))

    done = await patient.run_agent(AGENT)

    assert (done["status"], done["qualityScore"]) == ("completed", None)
    assert done["tokenUsage"]["total"] == len(model_server.calls) * 15 == 4 * 15


async def test_a_limit_that_reasoning_used_up_is_lifted_for_the_next_try(
    patient: Service, model_server: ModelServer
) -> None:
    used_up = completion("", finish_reason="length")
    used_up["choices"][0]["message"]["reasoning_content"] = "Let me see. " * 50

    def judge(call: Call) -> Reply:
        return used_up if call.body.get("max_tokens") else verdicts(call)

    model_server.on("judge", judge)

    done = await patient.run_agent(AGENT)

    assert (done["qualityScore"], len(model_server.calls_for("judge"))) == (90, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_in_an_answer_of_200_is_tried_again(
    patient: Service, model_server: ModelServer, stream: bool
) -> None:
    error = {"error": {"message": "Overloaded.", "code": 503}}
    replies = iter([error, "Done."])

    def work(_: Call) -> Reply:
        reply = next(replies)
        if stream and isinstance(reply, dict):
            return PlainTextResponse(f"data: {json.dumps(reply)}\n\n", media_type="text/event-stream")
        return reply if isinstance(reply, str) else JSONResponse(reply)

    model_server.on("work", work)

    done = await patient.run_agent(AGENT, judge=False, deltas=stream)

    assert (done["status"], done["output"]["text"], len(model_server.calls)) == ("completed", "Done.", 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_finish_reason_is_that_of_a_whole_answer(
    patient: Service, model_server: ModelServer, stream: bool
) -> None:
    model_server.on("work", completion("Done.", finish_reason="reason_of_tomorrow"))

    done = await patient.run_agent(AGENT, judge=False, deltas=stream)

    assert (done["status"], done["output"]["text"], done["truncated"]) == ("completed", "Done.", False)


async def test_the_judge_s_calls_are_tried_again_too(patient: Service, model_server: ModelServer) -> None:
    model_server.on("judge", fault(500))

    done = await patient.run_agent(AGENT)

    assert (done["status"], done["qualityScore"]) == ("completed", None)
    assert len(model_server.calls_for("judge")) == 3


async def test_a_wait_requested_by_the_provider_is_honored_and_can_be_cancelled(
    patient: Service, model_server: ModelServer
) -> None:
    model_server.on("work", fault(429, **{"Retry-After": "30"}))
    accepted = await patient.http.post(f"/api/v1/agents/{AGENT}/runs", json=BODY)
    execution_id = accepted.json()["executionId"]
    async with asyncio.timeout(10):
        while not of_type(await patient.events(execution_id), "agent-retry"):  # noqa: ASYNC110 - stored elsewhere
            await asyncio.sleep(0.02)

    answer = await patient.http.post(f"/api/v1/executions/{execution_id}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert len(model_server.calls) == 1


def test_a_pause_grows_is_spread_and_is_no_shorter_than_asked() -> None:
    limited = ModelRateLimited("429")
    limited.wait_seconds = 7.0
    endless = ModelRateLimited("429")
    endless.wait_seconds = DEFAULT_PAUSES.longest_wait_seconds + 1

    pauses = [[DEFAULT_PAUSES.before(attempt, ModelRateLimited("429")) for _ in range(50)] for attempt in (1, 2, 3, 9)]

    bounds = [(0.25, 0.5), (0.5, 1.0), (1.0, 2.0), (10.0, 20.0)]
    for some, (least, most) in zip(pauses, bounds, strict=True):
        assert all(pause is not None and least <= pause <= most for pause in some)
        assert len(set(some)) > 1
    assert (DEFAULT_PAUSES.before(1, limited) or 0) >= 7
    assert DEFAULT_PAUSES.before(1, endless) is None
    assert DEFAULT_PAUSES.before(1, ModelAccessDenied("401")) is None


async def stream_of(*parts: str, until: asyncio.Event) -> AsyncGenerator[str]:
    for part in parts:
        yield part
    await until.wait()


CALL_PART = (
    'data: {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [{"index": 0, '
    '"delta": {"role": "assistant", "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": '
    '{"name": "beatSheetTiming", "arguments": "{\\"pages\\": 100}"}}]}, "finish_reason": null}]}\n\n'
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "hangs", "code"),
    [((), True, "model-timeout"), ((CALL_PART,), True, "model-timeout"), ((CALL_PART,), False, "model-answer-invalid")],
    ids=["no first byte", "stalls", "cut"],
)
async def test_a_stream_that_stalls_or_is_cut_is_no_answer_and_its_tool_call_never_runs(
    database_uri: str,
    tmp_path: Path,
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    parts: tuple[str, ...],
    hangs: bool,
    code: str,
) -> None:
    ending = asyncio.Event()
    if not hangs:
        ending.set()
    limits = {"model_first_byte_seconds": 0.5, "model_idle_seconds": 0.5} if hangs else {}

    def work(_: Call) -> Reply:
        return StreamingResponse(stream_of(*parts, until=ending), media_type="text/event-stream")

    model_server.on("work", work)

    async with retrying_service(database_uri, tmp_path, model_server.url, **limits) as service:
        pause_less(service, monkeypatch, 0.02)
        try:
            done = await service.run_agent(AGENT, judge=False, deltas=True)
        finally:
            ending.set()
        events = await service.events(done["executionId"])

    assert (done["status"], done["error"]["code"]) == ("failed", code)
    assert len(model_server.calls) == 3
    assert of_type(events, "tool-call") == []


async def test_no_model_is_called_once_the_lease_may_have_run_out(
    patient: Service, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_renewer = patient.services.engine.lease_renewer
    model_server.on("work", lambda call: completion(None, ("beatSheetTiming", {"pages": 100})))
    monkeypatch.setattr(lease_renewer, "_renewed", lease_renewer._renewed - 3600)

    assert not lease_renewer.holds
    accepted = await patient.http.post(f"/api/v1/agents/{AGENT}/runs", json=BODY)
    root_id = accepted.json()["executionId"]

    assert accepted.status_code == 202
    assert await patient.services.engine.wait_for_end(root_id) is None
    assert model_server.calls == []
    monkeypatch.undo()
    cancelled = await patient.http.post(f"/api/v1/executions/{root_id}/cancel")
    assert cancelled.status_code in (202, 409)

"""Starting runs over HTTP: waiting for them, and how every failure of a model ends."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from starlette.responses import HTMLResponse, Response

from app.routers.executions.runs import MAX_WAIT_SECONDS, wait_seconds
from tests.fixtures.http_api import Gate, open_socket
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault
from tests.fixtures.services import PROJECT, Service, StartService, write_models_config

RUNS = "/api/v1/agents/plot-specialist-001/runs"
BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}


async def test_without_a_preference_the_answer_comes_at_once(shared_service: Service, gate: Gate) -> None:
    answer = await shared_service.http.post(RUNS, json=BODY)

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert "preference-applied" not in answer.headers
    gate.opened.set()


async def test_a_caller_that_waits_gets_the_finished_execution(shared_service: Service) -> None:
    answer = await shared_service.http.post(RUNS, json=BODY, headers={"Prefer": "respond-async, wait=20"})

    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "completed")
    assert body["output"]["text"] == "The work is done."
    assert answer.headers["location"] == f"/api/v1/executions/{body['executionId']}"
    assert answer.headers["preference-applied"] == "wait"


@pytest.mark.parametrize("path", ["agents/plot-specialist-001", "departments/story"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_caller_that_waits_gets_exactly_the_stored_execution(
    shared_service: Service, model_server: ModelServer, path: str, status: int
) -> None:
    if status != 200:
        model_server.on("work", lambda _: fault(status, "out of order"))
    answer = await shared_service.http.post(
        f"/api/v1/{path}/runs", json={**BODY, "params": {"tone": "calm"}}, headers={"Prefer": "wait=20"}
    )

    stored = await shared_service.http.get(answer.json()["links"]["self"])
    assert answer.json()["status"] == ("completed" if status == 200 else "failed")
    assert answer.json() == stored.json()


async def test_a_request_repeated_while_its_run_continues_waits_for_the_same_answer(
    shared_service: Service, gate: Gate
) -> None:
    headers = {"Idempotency-Key": "sent-twice", "Prefer": "wait=20"}
    first = asyncio.create_task(shared_service.http.post(RUNS, json=BODY, headers=headers))
    await gate.reached.wait()
    again = asyncio.create_task(shared_service.http.post(RUNS, json=BODY, headers=headers))
    said_aloud = {**BODY, "maxRevisions": 1, "deltas": False}
    pending = await shared_service.http.post(RUNS, json=said_aloud, headers={"Idempotency-Key": "sent-twice"})
    gate.opened.set()

    answers = [await first, await again]
    assert (pending.status_code, pending.json()["agent"]) == (202, "plot-specialist-001")
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert answers[0].json() == answers[1].json()


@pytest.mark.slow
async def test_a_caller_that_waits_too_briefly_gets_202_and_the_run_continues(
    shared_service: Service, gate: Gate
) -> None:
    answer = await shared_service.http.post(RUNS, json=BODY, headers={"Prefer": "wait=1"})

    execution_id = answer.json()["executionId"]
    async with open_socket(shared_service) as socket:
        await socket.ask(type="subscribe", executionId=execution_id)
        gate.opened.set()
        end = (await socket.until_end())[-1]
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert end["status"] == "completed"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ("wait=5; foo", 5),
        ("wait=0", 0),
        ("wait=61", MAX_WAIT_SECONDS),
        ("Wait = 7", 7),
        ('wait="8", respond-async', 8),
        ("wait=" + "9" * 5000, MAX_WAIT_SECONDS),
        ('wait="8', 0),
        ("await=8", 0),
        ("wait=999999", MAX_WAIT_SECONDS),
        ("wait=99999999999999", MAX_WAIT_SECONDS),
        ("wait=-1", 0),
        ("wait=soon", 0),
        ("await=10", 0),
        ("wait = 10", 10),
    ],
)
def test_an_invalid_preference_is_ignored_and_the_longest_wait_is_a_minute(prefer: str | None, seconds: int) -> None:
    assert wait_seconds(prefer) == seconds


def without_choices() -> Reply:
    return {**completion("x"), "choices": []}


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (lambda: fault(500, "sk-secret"), "model-unavailable"),
        (lambda: fault(401, "sk-secret"), "model-access-denied"),
        (lambda: fault(429, "sk-secret"), "model-rate-limited"),
        (lambda: fault(404, "sk-secret"), "model-not-found"),
        (lambda: HTMLResponse("<html>sk-secret</html>"), "model-answer-invalid"),
        (lambda: Response(b"\xff\x00", media_type="application/json"), "model-answer-invalid"),
        (without_choices, "model-answer-invalid"),
        (lambda: completion(""), "model-answer-invalid"),
        (lambda: completion("  \n"), "model-answer-invalid"),
        (lambda: completion(None), "model-answer-invalid"),
    ],
    ids=["500", "401", "429", "404", "html", "bytes", "no choice", "empty", "blank", "null"],
)
@pytest.mark.parametrize("deltas", [False, True], ids=["plain", "streamed"])
async def test_a_model_that_fails_ends_the_run_as_failed_with_one_clear_error(
    shared_service: Service,
    model_server: ModelServer,
    reply: Callable[[], Reply],
    code: str,
    deltas: bool,
) -> None:
    model_server.on("work", lambda _: reply())

    run = await shared_service.run_agent("plot-specialist-001", judge=False, deltas=deltas)

    assert (run["status"], run["error"]["code"], run["stopReason"]) in (
        ("failed", code, "error"),
        # a broken stream is reported as such, because its content is unknown
        ("failed", "model-unavailable" if deltas else code, "error"),
    )
    assert run["error"]["message"]
    assert "sk-secret" not in str(run)
    last = (await shared_service.events(run["executionId"]))[-1]
    assert (last["type"], run["error"] | last["error"]) == ("agent-error", run["error"])


@pytest.mark.slow
async def test_a_model_that_hangs_ends_the_run_as_failed_when_its_time_is_over(
    start_service: StartService, model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = write_models_config(tmp_path_factory.mktemp("models") / "models.yaml", model_server.url, timeout=0.3)
    released = asyncio.Event()

    async def hang(_: Call) -> Reply:
        await released.wait()
        return "Too late."

    model_server.on("work", hang)

    async with start_service(models_config=config) as service:
        run = await service.run_agent("plot-specialist-001", judge=False)
        department = await service.run_department("story")
        released.set()

    assert (run["status"], run["error"]["code"]) == ("failed", "model-timeout")
    assert (department["status"], department["error"]["code"]) == ("failed", "all-specialists-failed")


@pytest.mark.parametrize("answer", ["I like it.", "{}", '{"confidence": "very"}', "[1, 2]"])
async def test_a_judge_that_answers_garbage_leaves_the_score_unset_and_the_run_completed(
    shared_service: Service, model_server: ModelServer, answer: str
) -> None:
    model_server.on("judge", answer)

    run = await shared_service.run_agent("plot-specialist-001")

    assert (run["status"], run["qualityScore"]) == ("completed", None)
    (check,) = [one for one in await shared_service.events(run["executionId"]) if one["type"] == "quality-check"]
    assert check["score"] is None


@pytest.mark.slow
async def test_which_model_a_complexity_means_can_be_set(start_service: StartService, models_config: Path) -> None:
    async with start_service(models_config=models_config, simple_model="openai/gpt-4") as service:
        done = [
            await service.run_agent("plot-specialist-001", complexity=complexity, judge=False)
            for complexity in ("simple", "complex")
        ]
        models = [(await service.events(one["executionId"]))[0]["model"] for one in done]

    assert models == ["openai/gpt-4", "anthropic/claude-3-opus"]


def leave_out(models_config: Path, name: str) -> None:
    """Remove a model's entries from a MODELS_CONFIG."""
    entries = yaml.safe_load(models_config.read_text())["model_list"]
    models_config.write_text(
        yaml.safe_dump({"model_list": [entry for entry in entries if entry["model_name"] != name]})
    )


@pytest.mark.slow
async def test_a_complexity_whose_model_is_not_configured_is_422(
    start_service: StartService, models_config: Path
) -> None:
    leave_out(models_config, "anthropic/claude-3-opus")
    async with start_service(models_config=models_config) as service:
        answer = await service.http.post(RUNS, json={**BODY, "complexity": "complex"})

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "complexity")

"""Runs whose model fails, in every way that models do."""

import asyncio

import bson
import pytest
from starlette.responses import PlainTextResponse

from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault
from tests.fixtures.runs import ADA, IMPATIENT_MODEL, Catalog, all_events, first_then, of_type, stored, types_of
from tests.fixtures.services import Service

ONE_CALL = {"input": 10, "output": 5, "total": 15, "cacheRead": 0, "cacheWrite": 0}
SECRET = "key-of-the-tests"
FAULTS: list[tuple[Reply, str]] = [
    (fault(401, f"Incorrect API key provided: {SECRET}."), "model-access-denied"),
    (fault(403, f"{SECRET} may not."), "model-"),
    (fault(400, f"{SECRET}: bad request"), "model-request-refused"),
    (fault(404, f"{SECRET}: no such model"), "model-not-found"),
    (fault(429, f"{SECRET}: slow down"), "model-rate-limited"),
    (fault(500, f"{SECRET}: boom"), "model-unavailable"),
    (PlainTextResponse(f"<html>{SECRET}</html>", media_type="text/html"), "model-"),
    (PlainTextResponse(f'{{"{SECRET}": ', media_type="application/json"), "model-"),
    ({"id": SECRET, "object": "chat.completion", "choices": []}, "model-answer-invalid"),
    (completion(None), "model-answer-invalid"),
    (completion("  \n"), "model-answer-invalid"),
    (completion("🎬" * 300_000), "model-answer-invalid"),
]


@pytest.mark.parametrize(("reply", "code"), FAULTS, ids=range(len(FAULTS)))
async def test_a_model_that_fails_fails_the_run_without_its_own_words(
    service: Service, model_server: ModelServer, reply: Reply, code: str
) -> None:
    model_server.on("work", reply)

    done = await service.run_agent(ADA)

    events = await service.events(done["executionId"])
    assert (done["status"], done["stopReason"]) == ("failed", "error")
    assert done["error"]["code"].startswith(code)
    assert types_of(events) == ["agent-start", "agent-error"]
    assert set(events[-1]["error"]) == {"code", "message"}
    assert done["error"] | events[-1]["error"] == done["error"]
    assert set(done["error"]) <= {"code", "message", "providerMessage"}
    assert events[-1]["agentId"] == ADA
    document = await stored(service, done["executionId"])
    assert SECRET not in str(document)
    assert document["completedAt"]
    assert document["lease"] is None


async def test_a_model_that_hangs_fails_the_run_at_its_timeout(service: Service, model_server: ModelServer) -> None:
    released = asyncio.Event()

    async def hang(_: Call) -> Reply:
        await released.wait()
        return "Too late."

    model_server.on("work", hang)

    done = await service.run_agent(ADA, model=IMPATIENT_MODEL)

    released.set()
    assert (done["status"], done["error"]["code"]) == ("failed", "model-timeout")


async def test_a_failed_run_keeps_its_history_tokens_and_time(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(completion(None, ("echo", {"n": 1})), fault(500)))

    done = await service.run_agent(ADA)

    last = (await service.events(done["executionId"]))[-1]
    assert done["status"] == "failed"
    assert [message["role"] for message in done["runState"]["messages"]] == ["system", "user", "assistant", "tool"]
    assert done["tokenUsage"] == last["tokenUsage"] == ONE_CALL
    assert done["executionTime"] >= 0


async def test_a_judge_that_fails_leaves_the_score_unset_and_says_so(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("judge", fault(500))

    done = await service.run_agent(ADA)

    check = of_type(await service.events(done["executionId"]), "quality-check")[0]
    assert (done["status"], done["qualityScore"]) == ("completed", None)
    assert (check["score"], check["dimensions"], check["gate"]["passed"]) == (None, {}, False)
    assert "could not answer" in check["gate"]["issues"][0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of requests over 1 MiB
@pytest.mark.parametrize(
    "result", ["'x'.repeat(250000)", pytest.param("Array(100000).fill(1)", marks=pytest.mark.long)]
)
async def test_a_run_whose_tools_give_more_than_its_document_can_hold_ends_well(
    service: Service, model_server: ModelServer, catalog: Catalog, result: str
) -> None:
    await catalog.edit_tool("echo", executeFunction=f"() => {result}")
    model_server.on("work", first_then(completion(None, *[("echo", {})] * 16), "Done."))

    done = await service.run_agent(ADA, judge=False)

    document = await stored(service, done["executionId"])
    results = of_type(await all_events(service, done["executionId"]), "tool-result")
    truncated = [result for result in results if result.get("truncated")]
    others = [result["output"]["error"]["code"] for result in results if not result.get("truncated")]
    whole = await service.http.get(f"/api/v1/executions/{done['executionId']}/events/{truncated[0]['seq']}")
    assert (done["status"], done["output"]["text"]) == ("completed", "Done.")
    assert len(bson.encode(document)) < 12 * 1024 * 1024
    assert len(results) == 16
    assert set(others) <= {"tool-timeout"}  # on a machine with other work
    assert len(whole.json()["output"]) in (250_000, 100_000)


async def test_the_longest_answer_that_is_allowed_ends_the_run_well(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", "x" * 1_000_000)

    done = await service.run_agent(ADA)

    assert (done["status"], len(done["output"]["text"])) == ("completed", 1_000_000)

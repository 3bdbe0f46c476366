"""One run for one idempotency key, however often and however at once it is sent."""

import asyncio

import httpx
import pytest

from tests.fixtures.model_server import Json, ModelServer
from tests.fixtures.runs import ADA, BOB, finished
from tests.fixtures.services import PROJECT, Service

BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}


@pytest.mark.slow
async def test_requests_with_one_idempotency_key_make_one_run(service: Service, model_server: ModelServer) -> None:
    path = f"/api/v1/agents/{ADA}/runs"
    headers = {"Idempotency-Key": "the-same"}

    async def post(place: int) -> str | None:
        if place % 3:
            answer = await service.http.post(path, json=BODY, headers=headers)
            assert answer.status_code == 202, answer.text
            return answer.json()["executionId"]
        try:
            async with httpx.AsyncClient(base_url=service.url, headers=service.http.headers, timeout=0.05) as impatient:
                await impatient.post(path, json=BODY, headers=headers)
        except httpx.TimeoutException:
            return None
        return None

    ids = await asyncio.gather(*map(post, range(100)))
    execution_id = next(one for one in ids if one)
    await finished(service, execution_id)
    replayed = await service.http.post(path, json=BODY, headers={**headers, "Prefer": "wait=5"})

    assert {one for one in ids if one} == {execution_id}
    assert len(model_server.calls) == 1
    assert (replayed.status_code, replayed.json()["status"]) == (200, "completed")
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.json()["executionId"] == execution_id


async def test_an_idempotency_key_belongs_to_one_body_one_path_and_one_caller(
    service: Service, model_server: ModelServer
) -> None:
    key = (await service.http.post("/api/v1/api-keys", json={"name": "other", "role": "runner"})).json()["key"]

    async def post(agent: str, body: Json, **headers: str) -> httpx.Response:
        given = {"Idempotency-Key": "mine", **headers}
        return await service.http.post(f"/api/v1/agents/{agent}/runs", json=body, headers=given)

    first = await post(ADA, BODY)
    same = await post(ADA, dict(reversed(BODY.items())))
    other_body = await post(ADA, BODY | {"prompt": "Other."})
    other_path = await post(BOB, BODY)
    other_caller = await post(ADA, BODY, Authorization=f"Bearer {key}")

    assert "idempotency-replayed" not in first.headers
    assert same.json()["executionId"] == first.json()["executionId"]
    assert (other_body.status_code, other_body.json()["code"]) == (422, "idempotency-key-reused")
    ids = {answer.json()["executionId"] for answer in (first, other_path, other_caller)}
    assert len(ids) == 3
    for one in ids:
        await finished(service, one)


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "tab\tbed"])
async def test_an_invalid_idempotency_key_is_refused(service: Service, key: str) -> None:
    answer = await service.http.post(f"/api/v1/agents/{ADA}/runs", json=BODY, headers={"Idempotency-Key": key})

    assert answer.status_code == 422

"""Every failure comes out as problem details: whole, stable, and silent about the inside."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from pymongo.errors import ServerSelectionTimeoutError
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from app.kit.validation_words import words_of
from app.routers.http.request_context import MAX_BODY_BYTES
from app.services.catalog.queries import CatalogQueries
from tests.fixtures.http_api import NewKey, assert_problem, wrong_fields
from tests.fixtures.services import PROJECT, Service

RUNS = "/api/v1/agents/plot-specialist-001/runs"
JSON = {"Content-Type": "application/json"}
BODY = {"prompt": "Write.", "project": PROJECT}
OBJECT_ID = "^[0-9a-fA-F]{24}$"
"""Described as a pattern, and checked by a function with words of its own."""
SECRET = "mongodb://admin:secret-word@10.0.0.7:27017"


@pytest.mark.parametrize("content", [b"{", b"", b"not json", b'{"a": 1} x', b"\xff\xfe\x00"])
async def test_a_body_that_is_not_json_is_malformed(shared_service: Service, content: bytes) -> None:
    answer = await shared_service.http.post(RUNS, content=content or b" ", headers=JSON)

    body = assert_problem(answer, 400, answer.json()["code"])
    assert body["code"] in ("malformed-json", "malformed-request")


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b"[]", ["body"]),
        (b"null", ["body"]),
        (b'"text"', ["body"]),
        (b"{}", ["prompt", "project"]),
        (json.dumps({**BODY, "prompt": {"$ne": None}}).encode(), ["prompt"]),
        (json.dumps({**BODY, "status": "completed", "_id": 1}).encode(), ["status", "_id"]),
        (b'{"prompt": "x", "project": "%s", "params": []}' % PROJECT.encode(), ["params"]),
        (json.dumps({**BODY, "model": ""}).encode(), ["model"]),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_wrong_fields_are_each_named_by_their_path(
    shared_service: Service, content: bytes, paths: list[str]
) -> None:
    answer = await shared_service.http.post(RUNS, content=content, headers=JSON)

    assert wrong_fields(answer) == paths


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (RUNS, BODY | {"prompt": ""}, "String should have at least 1 character"),
        (RUNS, BODY | {"prompt": "x" * 100_001}, "String should have at most 100000 characters"),
        ("/api/v1/api-keys", {"name": "", "role": "viewer"}, "String should have at least 1 character"),
        ("/api/v1/orchestrations", BODY | {"departments": []}, "List should have at least 1 item after validation"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_the_length_of_a_text_is_reported_in_characters_and_that_of_a_list_in_items(
    shared_service: Service, path: str, body: dict[str, Any], message: str
) -> None:
    answer = await shared_service.http.post(path, json=body)

    (error,) = assert_problem(answer, 422, "validation-error")["errors"]
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer there-is-no-such-key"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Authorization": "nonsense"},
        {"X-API-Key": ""},
        {"X-API-Key": "x" * 5000},
        {"X-API-Key": "ключ".encode()},
    ],
    ids=lambda headers: str(headers)[:60],
)
async def test_all_invalid_credentials_get_the_same_401(anonymous: httpx.AsyncClient, headers: dict[str, Any]) -> None:
    answer = await anonymous.get("/api/v1/executions", headers=headers)

    body = assert_problem(answer, 401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert body["detail"] == "Send a valid API key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'."


async def test_two_keys_are_refused_also_the_same_one_twice(anonymous: httpx.AsyncClient, new_key: NewKey) -> None:
    bearer = (await new_key())["Authorization"]
    key = bearer.removeprefix("Bearer ")
    pairs = [
        [("Authorization", bearer), ("Authorization", "Bearer other")],
        [("Authorization", bearer), ("X-API-Key", "other")],
        [("Authorization", bearer), ("X-API-Key", key)],
        [("Authorization", bearer), ("Authorization", bearer)],
        [("X-API-Key", key), ("X-API-Key", key)],
    ]

    for headers in pairs:
        assert_problem(await anonymous.get("/api/v1/executions?limit=1", headers=headers), 401, "not-authenticated")
    other_case = await anonymous.get("/api/v1/executions", headers={"Authorization": bearer.replace("B", "b", 1)})
    assert other_case.status_code == 200


async def test_a_key_in_the_query_string_is_ignored(anonymous: httpx.AsyncClient, new_key: NewKey) -> None:
    key = (await new_key())["Authorization"].removeprefix("Bearer ")

    answer = await anonymous.get("/api/v1/executions", params={"key": key, "token": key, "api_key": key})

    assert_problem(answer, 401, "not-authenticated")


async def test_wrong_credentials_are_refused_even_where_none_are_needed(anonymous: httpx.AsyncClient) -> None:
    without = await anonymous.get("/api/v1/departments")
    wrong = await anonymous.get("/api/v1/departments", headers={"X-API-Key": "there-is-no-such-key"})

    assert without.status_code == 200
    assert_problem(wrong, 401, "not-authenticated")


async def test_too_small_a_role_is_forbidden(shared_service: Service, new_key: NewKey) -> None:
    answer = await shared_service.http.post(RUNS, json=BODY, headers=await new_key("viewer"))

    body = assert_problem(answer, 403, "not-allowed")
    assert "'runner'" in body["detail"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v1/nothing", "/api/v2/agents", "/api/v1/agents/", "/api/v1//agents", "/../etc/passwd"]
)
async def test_an_unknown_path_is_not_found(shared_service: Service, path: str) -> None:
    answer = await shared_service.http.get(path)

    assert_problem(answer, 404, answer.json()["code"])


@pytest.mark.parametrize(
    "name",
    ["unknown", "x" * 10_000, "plot-specialist-001%0A", "%00", "%FF", "..%2F..%2Fetc", "%D1%80lot", "$ne", "[$ne]"],
)
@pytest.mark.parametrize("kind", ["departments", "agents", "custom-tools", "executions"])
async def test_a_name_that_nothing_has_is_not_found_however_strange_it_is(
    shared_service: Service, kind: str, name: str
) -> None:
    answer = await shared_service.http.get(f"/api/v1/{kind}/{name}")

    body = assert_problem(answer, 404, answer.json()["code"])
    assert body["code"] in ("not-found", f"{kind.removesuffix('s')}-not-found")
    assert len(body["detail"]) < 600


async def test_an_unsupported_method_is_405_with_the_supported_ones(shared_service: Service) -> None:
    answer = await shared_service.http.put("/api/v1/departments/story")

    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"]


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * 65_536


async def test_a_body_over_one_mebibyte_is_too_large_announced_or_in_chunks(shared_service: Service) -> None:
    announced = await shared_service.http.post(RUNS, content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)
    chunked = await shared_service.http.post(RUNS, content=chunks(40), headers=JSON)

    assert_problem(announced, 413, "body-too-large")
    assert_problem(chunked, 413, "body-too-large")


async def test_a_body_of_exactly_one_mebibyte_is_read(shared_service: Service) -> None:
    empty = len(json.dumps({**BODY, "prompt": ""}))
    body = json.dumps({**BODY, "prompt": "x" * (MAX_BODY_BYTES - empty)})

    answer = await shared_service.http.post(RUNS, content=body, headers=JSON)

    assert wrong_fields(answer) == ["prompt"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", None])
@pytest.mark.parametrize("path", [RUNS, "/api/v1/departments/story/runs", "/api/v1/api-keys"])
async def test_a_body_of_another_type_is_refused_by_name(shared_service: Service, kind: str | None, path: str) -> None:
    headers = {"Content-Type": kind} if kind else {}

    answer = await shared_service.http.post(path, content=json.dumps(BODY), headers=headers)

    assert_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_json_by_any_of_its_names_is_read(shared_service: Service, kind: str) -> None:
    answer = await shared_service.http.post(RUNS, content="{}", headers={"Content-Type": kind})

    assert wrong_fields(answer) == ["prompt", "project"]


async def test_a_bug_is_reported_in_one_sentence_and_logged_under_the_requests_id(
    shared_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise RuntimeError(f"cannot reach {SECRET}")

    monkeypatch.setattr(CatalogQueries, "get_agent", crash)

    with capture_logs([merge_contextvars]) as lines:
        answer = await shared_service.http.get(
            "/api/v1/agents/plot-specialist-001", headers={"X-Request-Id": "req-of-mine"}
        )

    assert_problem(answer, 500, "internal-error")
    assert answer.headers["x-request-id"] == "req-of-mine"
    assert "secret-word" not in answer.text
    crashed = next(line for line in lines if line["event"] == "request-crashed")
    assert (crashed["requestId"], type(crashed["exc_info"])) == ("req-of-mine", RuntimeError)
    assert next(line for line in lines if line["event"] == "request")["status"] == 500


async def test_an_unavailable_database_is_reported_with_a_retry_after(
    shared_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ServerSelectionTimeoutError(f"{SECRET}: timed out")

    monkeypatch.setattr(CatalogQueries, "get_agent", fail)

    answer = await shared_service.http.get("/api/v1/agents/plot-specialist-001")

    assert_problem(answer, 503, "database-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "secret-word" not in answer.text


async def test_a_harmless_request_id_is_taken_over_and_another_one_is_made_up(anonymous: httpx.AsyncClient) -> None:
    given = await anonymous.get("/healthz", headers={"X-Request-Id": "trace-0.a_B"})
    made = [await anonymous.get("/healthz") for _ in range(2)]
    refused = [
        await anonymous.get("/healthz", headers={"X-Request-Id": wrong}) for wrong in ("a b", "x" * 65, "<b>", "a;b")
    ]

    assert given.headers["x-request-id"] == "trace-0.a_B"
    ids = {answer.headers["x-request-id"] for answer in (*made, *refused)}
    assert len(ids) == 6
    assert all(one.startswith("req_") for one in ids)


async def test_an_unknown_path_or_method_and_an_empty_body_are_named(shared_service: Service) -> None:
    unknown = await shared_service.http.get("/api/v1/agents/")
    method = await shared_service.http.put("/api/v1/agents")
    empty = await shared_service.http.post(RUNS, content=b"", headers=JSON)

    nothing = "There is no resource at '/api/v1/agents/'. See /docs or /openapi.json for the paths that exist."
    assert assert_problem(unknown, 404, "not-found")["detail"] == nothing
    refused = assert_problem(method, 405, "method-not-allowed")["detail"]
    assert refused == "'/api/v1/agents' does not accept PUT, only GET, POST."
    assert assert_problem(empty, 400, "malformed-json")["detail"] == "The body is empty. Send a JSON value."


async def test_no_request_is_answered_with_a_pattern(shared_service: Service) -> None:
    described = (await shared_service.http.get("/openapi.json")).json()
    parameters = [
        one for path in described["paths"].values() for way in path.values() for one in way.get("parameters", [])
    ]
    inputs = [schema for name, schema in described["components"]["schemas"].items() if not name.endswith("Read")]
    patterns = {*patterns_in(parameters), *patterns_in(inputs)}

    wrong = await shared_service.http.patch("/api/v1/custom-tools/textStatistics", json={"version": "1", "verson": "2"})
    problems = assert_problem(wrong, 422, "validation-error")["errors"]
    assert len(patterns) > 5
    assert [pattern for pattern in patterns if words_of(pattern) is None] == [OBJECT_ID]
    assert {one["path"]: one["message"] for one in problems} == {
        "version": "must be a version of three numbers, such as '1.2.0'",
        "verson": "is not a known field",
    }


def patterns_in(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """All patterns in a part of a description."""
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        yield from patterns_in(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from patterns_in(one)

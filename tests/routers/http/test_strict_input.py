"""No bytes from a client mean two things, or reach the database as an operator, or cause a 5xx."""

import json
import threading
from typing import Any

import pytest
from fastapi import Request
from starlette.types import Message

from app.kit import strict_json
from app.routers.http import strict_input
from tests.fixtures.services import PROJECT, Service

PATH = "/api/v1/agents/plot-specialist-001/runs"
GOOD = f'{{"prompt": "x", "project": "{PROJECT}"}}'


def with_params(text: str) -> bytes:
    """A run's body whose `params` hold this JSON text."""
    return f'{{"prompt": "x", "project": "{PROJECT}", "params": {text}}}'.encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"nothing", 400),
        (GOOD.encode("utf-16"), 400),
        (GOOD.replace("x", "\xff").encode("latin-1"), 400),
        (with_params('{"a": NaN}'), 422),
        (with_params('{"a": Infinity}'), 422),
        (with_params('{"a": 1e999}'), 422),
        (with_params('{"a": 99999999999999999999999}'), 422),
        (with_params('{"a": "\\ud800"}'), 422),
        (with_params('{"a\\u0000b": 1}'), 422),
        (with_params('{"a": "\\u0000"}'), 422),
        (with_params('{"a": 1, "a": 2}'), 422),
        (with_params("[" * 40 + "]" * 40), 422),
        (with_params('{"a":' * 50_000 + "1" + "}" * 50_000), 422),
        (b'{"prompt": "x", "prompt": "y", "project": "66f0a1b2c3d4e5f601234567"}', 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"null", 422),
        (GOOD.replace('"x"', '{"$ne": null}').encode(), 422),
        (GOOD.replace("}", ', "role": "admin"}').encode(), 422),
        (GOOD.replace("}", ', "status": "completed"}').encode(), 422),
        (GOOD.replace("}", ', "_id": "x"}').encode(), 422),
        (GOOD.replace("}", ', "api_base": "http://elsewhere"}').encode(), 422),
    ],
)
async def test_json_that_is_malformed_or_means_no_one_thing_is_refused(
    shared_service: Service, body: bytes, status: int
) -> None:
    executions = shared_service.services.database["agent-executions"]
    before = await executions.count_documents({})

    answer = await shared_service.http.post(PATH, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await executions.count_documents({}) == before


@pytest.mark.parametrize("path", ["agents/plot-specialist-001/runs", "departments/story/runs", "orchestrations"])
async def test_parameters_that_would_fill_a_document_are_refused(shared_service: Service, path: str) -> None:
    body = with_params(json.dumps({"a": [1] * 97_000}))

    answer = await shared_service.http.post(
        f"/api/v1/{path}", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 422
    [problem] = answer.json()["errors"]
    assert problem["path"] == "params"
    assert "more than 1048576" in problem["message"]


async def test_at_most_fifty_of_very_many_unknown_fields_are_named(shared_service: Service) -> None:
    body = {"prompt": "x", "project": PROJECT, **{f"unknown{n}": n for n in range(20_000)}}

    answer = await shared_service.http.post(PATH, json=body)

    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 50
    assert len(answer.content) < 10_000


async def test_at_most_fifty_of_very_many_query_parameters_are_named(shared_service: Service) -> None:
    answer = await shared_service.http.get("/api/v1/executions?" + "&".join(f"u{n}={n}" for n in range(5000)))

    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 50


async def test_a_large_body_is_parsed_outside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def parse(body: bytes) -> object:
        threads.append(threading.current_thread().name)
        return strict_json.parse_json_bytes(body)

    monkeypatch.setattr(strict_input, "parse_json_bytes", parse)

    for size in (1000, strict_input.MAX_INLINE_BYTES + 1):
        await strict_input.read_body(request_with(b'"' + b"x" * size + b'"'))

    assert threads[0] == threading.current_thread().name
    assert threads[1].startswith("checks")


def request_with(body: bytes) -> Request:
    """A request with a JSON body."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    headers = [(b"content-type", b"application/json")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
async def test_another_content_type_is_refused(shared_service: Service, media_type: str) -> None:
    answer = await shared_service.http.post(PATH, content=GOOD, headers={"Content-Type": media_type})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


async def test_json_at_the_bounds_is_taken_as_it_is(shared_service: Service) -> None:
    params: dict[str, Any] = {
        "big": 2**53,
        "deep": json.loads("[" * 29 + "]" * 29),
        "text": '🎬 \\ " {[',
        "float": 1e300,
    }

    started = await shared_service.http.post(PATH, json={"prompt": "x", "project": PROJECT, "params": params})
    stored = await shared_service.http.get(started.json()["links"]["self"])

    assert started.status_code == 202, started.text
    assert stored.json()["params"] == params


@pytest.mark.parametrize(
    "query",
    [
        "unknown=1",
        "status[$ne]=completed",
        "sort=$where",
        "sort=prompt",
        "limit=-1",
        "limit=1000000000",
        "limit=1&limit=2",
        "cursor=forged",
        "cursor=eyJzIjogIi1zdGFydGVkQXQifQ==",
        "project=abc",
        "from=yesterday",
        "agent=%00",
    ],
)
async def test_a_query_that_the_route_does_not_have_is_refused(shared_service: Service, query: str) -> None:
    answer = await shared_service.http.get(f"/api/v1/executions?{query}")

    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "validation-error"


@pytest.mark.parametrize(
    "path", ["agents/abc%0A", "departments/..%2F..", "agents/" + "x" * 10_000, "agents/%F0%9F%8E%AC"]
)
async def test_a_strange_path_is_not_found(shared_service: Service, path: str) -> None:
    answer = await shared_service.http.get(f"/api/v1/{path}")

    assert answer.status_code in (404, 422)
    assert "code" in answer.json()

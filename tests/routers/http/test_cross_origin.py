"""Pages of other origins: those that the settings list may use the API from a browser, and no others."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.fixtures.http_api import Gate, start_run
from tests.fixtures.services import PROJECT, Service, StartService

pytestmark = pytest.mark.slow

ORIGIN = "https://studio.example"
ALLOW_ORIGIN = "access-control-allow-origin"


@pytest.fixture
async def open_to_studio(start_service: StartService, models_config: Path) -> AsyncGenerator[Service]:
    """A service that pages of one other origin may use."""
    async with start_service(models_config=models_config, allowed_origins=(f"{ORIGIN}/",)) as service:
        yield service


async def test_a_listed_origin_may_send_client_requests_and_read_the_response_headers(open_to_studio: Service) -> None:
    wanted = "authorization, x-api-key, content-type, idempotency-key, prefer, if-match, last-event-id"
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": wanted}

    preflight = await open_to_studio.http.options("/api/v1/agents/x", headers=asked)
    answer = await open_to_studio.http.get("/api/v1/agents/plot-specialist-001", headers={"Origin": ORIGIN})
    refused = await open_to_studio.http.get("/api/v1/agents/x", headers={"Origin": ORIGIN})

    assert (preflight.status_code, preflight.headers[ALLOW_ORIGIN]) == (200, ORIGIN)
    allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert set(wanted.split(", ")) <= set(allowed)
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["x-request-id"]
    assert (answer.status_code, answer.headers[ALLOW_ORIGIN], answer.headers["vary"]) == (200, ORIGIN, "Origin")
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"Location", "ETag", "X-Request-Id", "Idempotency-Replayed", "Retry-After"}
    assert "access-control-allow-credentials" not in answer.headers
    assert (refused.status_code, refused.headers[ALLOW_ORIGIN]) == (404, ORIGIN)


async def test_no_other_origin_is_let_in(open_to_studio: Service, shared_service: Service) -> None:
    for service, origin in ((open_to_studio, "https://evil.example"), (shared_service, ORIGIN)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}

        preflight = await service.http.options("/api/v1/agents", headers=asked)
        answer = await service.http.get("/api/v1/agents", headers={"Origin": origin})

        assert preflight.status_code in (400, 405)
        assert ALLOW_ORIGIN not in preflight.headers
        assert ALLOW_ORIGIN not in answer.headers


async def test_events_still_stream_one_by_one_to_another_origin(open_to_studio: Service, gate: Gate) -> None:
    execution_id = await start_run(open_to_studio, PROJECT)
    await gate.reached.wait()
    path = f"/api/v1/executions/{execution_id}/events/stream"

    async with open_to_studio.http.stream("GET", path, headers={"Origin": ORIGIN}) as answer:
        async with asyncio.timeout(5):
            first = await anext(answer.aiter_text())
        gate.opened.set()

    assert answer.headers[ALLOW_ORIGIN] == ORIGIN
    assert "event: agent-start" in first

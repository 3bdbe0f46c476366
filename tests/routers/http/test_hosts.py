"""Which hosts the service answers for, and which pages it takes for its own."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from starlette.types import Message
from websockets.exceptions import InvalidStatus

from app.routers.http.hosts import HostCheck
from app.settings import Settings
from tests.fixtures.http_api import assert_problem, open_socket
from tests.fixtures.services import ADMIN_KEY, Service, StartService

PATH = "/api/v1/departments"
EVIL = "rebound.evil.example"


@pytest.fixture
async def named(start_service: StartService) -> AsyncGenerator[Service]:
    """A service that is reached by names of its own."""
    async with start_service(allowed_hosts=("agents.example", "other.example:8443", "*.studio.example")) as service:
        yield service


async def status_for(service: Service, host: str, path: str = PATH) -> int:
    """Return the status of the response to a request for a host."""
    return (await service.http.get(path, headers={"Host": host})).status_code


@pytest.mark.parametrize(
    "path", [PATH, "/api/v1/executions", "/openapi.json", "/docs", "/nothing", "/healthz", "/readyz"]
)
async def test_another_host_is_answered_421_on_every_path(shared_service: Service, path: str) -> None:
    answer = await shared_service.http.get(path, headers={"Host": f"{EVIL}:8000"})

    body = assert_problem(answer, 421, "misdirected-request")
    assert EVIL in body["detail"]


async def test_by_default_loopback_names_are_answered(shared_service: Service) -> None:
    port = shared_service.url.rpartition(":")[2]
    good = ("localhost", "LOCALHOST", "localhost.", f"localhost:{port}", "127.0.0.1:1", "[::1]", "[0:0::1]:80")
    bad = (
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.1.2.3",
        "[::2]",
        "local host",
        "localhost:x",
        "@",
        "a" * 400,
    )

    assert [await status_for(shared_service, host) for host in good] == [200] * len(good)
    assert [await status_for(shared_service, host) for host in bad] == [421] * len(bad)


@pytest.mark.slow
async def test_listed_hosts_are_answered_and_no_others(named: Service) -> None:
    good = ("agents.example", "agents.example:9000", "other.example:8443", "a.studio.example", "b.a.studio.example:1")
    bad = (
        "x.agents.example",
        "agents.example.evil.example",
        "other.example",
        "other.example:8000",
        "studio.example",
        EVIL,
    )

    assert [await status_for(named, host) for host in good] == [200] * len(good)
    assert [await status_for(named, host) for host in bad] == [421] * len(bad)


@pytest.mark.slow
async def test_probes_may_use_any_address_and_others_the_one_that_they_reached(named: Service) -> None:
    assert [await status_for(named, "10.1.2.3:8000", path) for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
    assert await status_for(named, "10.1.2.3:8000") == 421
    assert await status_for(named, "127.0.0.1:8000") == 200


@pytest.mark.parametrize(
    ("server", "host", "answered"),
    [
        ("10.1.2.3", "10.1.2.3:8000", True),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("fd00::1", "[fd00:0::1]:8000", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("10.1.2.3", EVIL, False),
        (None, "10.1.2.3", False),
    ],
)
async def test_on_all_addresses_the_one_that_was_reached_is_answered(
    server: str | None, host: str, *, answered: bool
) -> None:
    reached: list[str] = []

    async def app(*_: Any) -> None:  # noqa: ANN401 - an ASGI application's arguments
        reached.append(host)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        return

    scope = {
        "type": "http",
        "path": PATH,
        "headers": [(b"host", host.encode())],
        "server": (server, 8000) if server else None,
    }
    await HostCheck(app, Settings(host="0.0.0.0").answered_hosts)(scope, receive, send)  # noqa: S104 - not bound

    assert bool(reached) == answered


async def test_a_socket_for_another_host_is_refused_also_from_a_page_of_that_host(shared_service: Service) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Origin": f"http://{EVIL}"}

    with pytest.raises(InvalidStatus) as caught:
        async with open_socket(shared_service, headers, EVIL):
            pass

    response = caught.value.response
    assert response.status_code == 421
    assert json.loads(response.body or b"")["code"] == "misdirected-request"


@pytest.mark.slow
async def test_a_page_of_an_allowed_host_can_open_a_socket(named: Service) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Origin": "https://agents.example"}

    async with open_socket(named, headers, "agents.example") as socket:
        assert await socket.is_open()


@pytest.mark.parametrize(
    ("path", "status"), [(PATH, 200), ("/nothing", 404), ("/api/v1/executions", 401), ("/healthz", 200)]
)
async def test_every_response_prevents_sniffing_framing_and_caching(
    anonymous: httpx.AsyncClient, path: str, status: int
) -> None:
    answer = await anonymous.get(path)

    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"

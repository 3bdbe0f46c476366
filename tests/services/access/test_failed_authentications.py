"""Failed authentications: guessing is slowed, and no failure of one client keeps out another."""

import httpx
import pytest

from app.services.access.failed_authentications import FailedAuthentications, network_of
from app.services.usage.rate_limits import TooManyRequests
from tests.fixtures.http_api import open_socket
from tests.fixtures.services import ADMIN_KEY, PROJECT, Service, StartService

PATH = "/api/v1/executions"
LIMIT = "3/minute"


async def status_with(service: Service, key: str, **headers: str) -> int:
    """Request the caller with a key."""
    return (await service.http.get(PATH, headers={"Authorization": f"Bearer {key}", **headers})).status_code


async def is_limited(failures: FailedAuthentications, key: str, address: str) -> bool:
    """Count a failure; whether it was one too many."""
    try:
        await failures.count(key, address)
    except TooManyRequests:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "guess", ["the-same-key", "one-prefix-{}", "{}-different-prefixes"], ids=["one key", "one prefix", "many prefixes"]
)
async def test_guessing_is_slowed_and_a_good_key_passes_all_the_same(start_service: StartService, guess: str) -> None:
    async with start_service(auth_failure_limit=LIMIT) as service:
        made = await service.http.post("/api/v1/api-keys", json={"name": "of a client", "role": "viewer"})
        guesses = [await status_with(service, guess.format(number)) for number in range(5)]
        refused = await service.http.get(PATH, headers={"Authorization": f"Bearer {guess.format(9)}"})
        good = [await status_with(service, key) for key in (ADMIN_KEY, made.json()["key"])]

    assert guesses == [401, 401, 401, 429, 429]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert good == [200, 200]


@pytest.mark.slow
async def test_a_client_that_repeats_its_bad_key_uses_up_no_one_elses_attempts(start_service: StartService) -> None:
    async with start_service(auth_failure_limit=LIMIT) as service:
        first = [await status_with(service, "an-expired-key") for _ in range(5)]
        other = await status_with(service, "another-clients-typing-error")

    assert first[-1] == 429
    assert other == 401


@pytest.mark.slow
async def test_addresses_are_counted_apart_and_ipv6_by_network() -> None:
    failures = FailedAuthentications(LIMIT)

    same_network = [await is_limited(failures, f"{n}-key", f"2001:db8::{n}") for n in range(1, 5)]
    elsewhere = [
        await is_limited(failures, "5-key", one) for one in ("2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.2")
    ]

    assert same_network == [False, False, False, True]
    assert elsewhere == [False, False, False]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_failures_are_counted_by_the_network_of_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.slow
@pytest.mark.parametrize("how", ["in the handshake", "in the first message"])
async def test_a_limited_address_gets_an_error_on_the_socket(start_service: StartService, how: str) -> None:
    async with start_service(auth_failure_limit="1/minute") as service:
        await status_with(service, "a-bad-key")
        headers = {"X-API-Key": "a-bad-key"} if how == "in the handshake" else {}
        async with open_socket(service, headers) as socket:
            if not headers:
                await socket.send(type="auth", token="a-bad-key")
            told = await socket.receive()
            code = await socket.close_code()
            reason = socket.connection.close_reason
        async with open_socket(service, {"X-API-Key": ADMIN_KEY}) as socket:
            assert await socket.is_open()

    assert (told["type"], told["code"]) == ("error", "rate-limited")
    assert "limited to 1 per 1 minute" in told["message"]
    assert code == 4401
    assert reason
    assert "limited to 1 per 1 minute" in reason


@pytest.mark.slow
async def test_forwarding_headers_of_a_client_that_is_no_trusted_proxy_are_ignored(start_service: StartService) -> None:
    async with start_service(auth_failure_limit=LIMIT) as service:
        escaped = [await status_with(service, f"{n}-key", **{"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(1, 6)]

    assert escaped == [401, 401, 401, 429, 429]


@pytest.mark.slow
async def test_behind_a_trusted_proxy_each_client_is_counted_by_its_own_address(start_service: StartService) -> None:
    async with start_service(auth_failure_limit=LIMIT, trusted_proxies=("127.0.0.0/8",)) as service:
        locked_out = [await status_with(service, "a-bad-key", **{"X-Forwarded-For": "192.0.2.1"}) for _ in range(4)]
        other = await status_with(service, "a-bad-key", **{"X-Forwarded-For": "192.0.2.2"})
        forged = await status_with(service, "a-bad-key", **{"X-Forwarded-For": "192.0.2.9, 192.0.2.1, 127.0.0.2"})

    assert locked_out == [401, 401, 401, 429]
    assert other == 401
    assert forged == 429, "the proxy appends the address that it sees; what its client claims stands before it"


@pytest.mark.slow
async def test_the_limit_is_escaped_by_no_other_way_of_sending_a_key(start_service: StartService) -> None:
    async with (
        start_service(auth_failure_limit="1/minute") as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        answers = [
            await client.get("/api/v1/departments", headers=headers)
            for headers in ({"X-API-Key": "bad-key-1"}, {"Authorization": "Bearer bad-key-2"})
        ]
        run = await client.post(
            "/api/v1/agents/plot-specialist-001/runs",
            json={"prompt": "x", "project": PROJECT},
            headers={"X-API-Key": "bad-key-3"},
        )

    assert [answer.status_code for answer in answers] == [401, 429]
    assert run.status_code == 429

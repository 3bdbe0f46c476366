"""Limits on starting runs."""

import pytest
from pydantic import SecretStr

from app.services.usage.rate_limits import RateLimiter, TooManyRequests
from tests.fixtures.services import PROJECT, Service, StartService
from tests.fixtures.valkey import ValkeyProcess
from tests.fixtures.waiting import wait_until

RUN = {"prompt": "x", "project": PROJECT}
PATH = "/api/v1/agents/plot-specialist-001/runs"


async def key_with(service: Service, **body: str) -> dict[str, str]:
    """The headers of a new runner key."""
    made = await service.http.post("/api/v1/api-keys", json={"name": "k", "role": "runner", **body})
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


@pytest.mark.slow
async def test_a_key_that_starts_too_many_runs_gets_a_retry_after(start_service: StartService) -> None:
    async with start_service(run_rate_limit="2/minute") as service:
        first, second = await key_with(service), await key_with(service)

        statuses = [(await service.http.post(PATH, json=RUN, headers=first)).status_code for _ in range(2)]
        refused = await service.http.post(PATH, json=RUN, headers=first)
        other = await service.http.post(PATH, json=RUN, headers=second)

    assert statuses == [202, 202]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert other.status_code == 202


@pytest.mark.slow
async def test_a_keys_own_limit_wins_over_the_services(service: Service) -> None:
    headers = await key_with(service, runRateLimit="1/hour")

    statuses = [(await service.http.post(PATH, json=RUN, headers=headers)).status_code for _ in range(2)]

    assert statuses == [202, 429]


@pytest.mark.parametrize("limit", ["often", "0/minute", "2/second;0/minute", "1/99999 year", 5])
async def test_an_invalid_limit_or_a_limit_of_zero_is_422(shared_service: Service, limit: object) -> None:
    body = {"name": "k", "role": "viewer", "runRateLimit": limit}

    answer = await shared_service.http.post("/api/v1/api-keys", json=body)

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "runRateLimit")


@pytest.mark.parametrize("own", [None, "100/second;2/minute"])
async def test_of_several_limits_all_hold(own: str | None) -> None:
    limiter = RateLimiter("Starting runs", "100/second;2/minute;2/minute")

    for _ in range(2):
        await limiter.check("a key")
        await limiter.hit("a key", own)

    with pytest.raises(TooManyRequests, match="2 per 1 minute") as caught:
        await limiter.hit("a key", own)
    assert (caught.value.retry_after_seconds or 0) > 1
    if own is None:
        with pytest.raises(TooManyRequests):
            await limiter.check("a key")


@pytest.mark.slow
async def test_a_request_that_one_limit_refuses_is_not_counted_against_another() -> None:
    limiter = RateLimiter("Starting runs", "2/minute;1/second")
    await limiter.hit("a key")

    async def is_let_in() -> bool:
        try:
            await limiter.hit("a key")
        except TooManyRequests:
            return False
        return True

    await wait_until(is_let_in)


@pytest.mark.slow
async def test_processes_count_together_in_redis_and_alone_without_it(
    start_service: StartService, valkey: ValkeyProcess
) -> None:
    settings = {"run_rate_limit": "3/minute", "redis_url": SecretStr(valkey.url)}
    async with start_service(**settings) as one, start_service(**settings) as other:
        key = await key_with(one)

        async def start(service: Service) -> int:
            return (await service.http.post(PATH, json=RUN, headers=key)).status_code

        together = [await start(service) for service in (one, other, one, other, one)]
        await valkey.stop()
        alone = [await start(service) for service in (one, one, other)]
        await valkey.start()

    assert together == [202, 202, 202, 429, 429]
    assert alone == [202, 202, 202]

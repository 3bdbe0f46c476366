"""Limits on starting runs and on guessing keys."""

from tests.conftest import ADMIN_KEY, PROJECT, Service, StartService

RUN = {"prompt": "x", "project": PROJECT}
PATH = "/api/v1/agents/plot-specialist-001/runs"


async def key_with(service: Service, **body: str) -> dict[str, str]:
    """The headers of a new runner key."""
    made = await service.http.post("/api/v1/api-keys", json={"name": "k", "role": "runner", **body})
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


async def test_a_key_that_starts_too_many_runs_is_told_when_to_come_back(start_service: StartService) -> None:
    async with start_service(run_rate_limit="2/minute") as service:
        first, second = await key_with(service), await key_with(service)

        statuses = [(await service.http.post(PATH, json=RUN, headers=first)).status_code for _ in range(2)]
        refused = await service.http.post(PATH, json=RUN, headers=first)
        other = await service.http.post(PATH, json=RUN, headers=second)

    assert statuses == [202, 202]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert other.status_code == 202


async def test_a_keys_own_limit_wins_over_the_services(service: Service) -> None:
    headers = await key_with(service, runRateLimit="1/hour")

    statuses = [(await service.http.post(PATH, json=RUN, headers=headers)).status_code for _ in range(2)]
    wrong = await service.http.post("/api/v1/api-keys", json={"name": "k", "role": "viewer", "runRateLimit": "often"})

    assert statuses == [202, 429]
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "runRateLimit")


async def test_guessing_keys_is_slowed_down_and_nothing_else(start_service: StartService) -> None:
    async with start_service(auth_failure_limit="3/minute") as service:
        guesses = [
            (await service.http.get("/api/v1/executions", headers={"Authorization": f"Bearer guess-{n}"})).status_code
            for n in range(4)
        ]
        right = await service.http.get("/api/v1/executions", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
        none = await service.http.get("/api/v1/departments", headers={"Authorization": ""})

    assert guesses == [401, 401, 401, 429]
    assert right.status_code == 429, (
        "from this address even a right key waits: else the limit would tell it from a wrong one"
    )
    assert none.status_code in (200, 401)

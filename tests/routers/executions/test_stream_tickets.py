"""Tickets for event streams: what they open, for whom, for how long."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from playwright.async_api import async_playwright
from pydantic import SecretStr

from tests.fixtures.http_api import Gate, NewKey, assert_problem, insert_foreign_executions, start_run
from tests.fixtures.services import PROJECT, Service, StartService
from tests.fixtures.waiting import wait_until
from tests.routers.sockets.test_event_sockets import CHROMIUM

SECRET = "a secret of more than thirty-two bytes"
FOLLOW = """
(url) => new Promise((resolve, reject) => {
  const source = new EventSource(url);
  const seen = [];
  for (const type of ["agent-start", "agent-response", "agent-complete"]) {
    source.addEventListener(type, ({ data }) => { seen.push(JSON.parse(data)); window.following = true; });
  }
  source.addEventListener("execution-end", ({ data }) => { source.close(); resolve([...seen, JSON.parse(data)]); });
  source.onerror = () => reject(new Error("cannot follow"));
})
"""


def ticket_path(execution_id: str) -> str:
    """Where a ticket for an execution is made."""
    return f"/api/v1/executions/{execution_id}/stream-ticket"


def stream_path(execution_id: str) -> str:
    """The stream of an execution."""
    return f"/api/v1/executions/{execution_id}/events/stream"


async def new_ticket(service: Service, execution_id: str, headers: dict[str, str] | None = None) -> str:
    """A ticket for an execution."""
    answer = await service.http.post(ticket_path(execution_id), headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["ticket"]


async def stream_with(client: httpx.AsyncClient, execution_id: str, ticket: str, **headers: str) -> httpx.Response:
    """Request a finished execution's stream with a ticket."""
    return await client.get(stream_path(execution_id), params={"ticket": ticket}, headers=headers)


@pytest.fixture
async def execution_id(shared_service: Service, project: str) -> str:
    """An execution that has ended."""
    return (await shared_service.run_agent("plot-specialist-001", project=project, judge=False))["executionId"]


async def test_a_viewers_ticket_opens_the_stream_for_a_minute(
    shared_service: Service, anonymous: httpx.AsyncClient, new_key: NewKey, execution_id: str
) -> None:
    made = await shared_service.http.post(ticket_path(execution_id), headers=await new_key("viewer"))

    body = made.json()
    remaining = datetime.fromisoformat(body["expiresAt"]) - datetime.now(UTC)
    answer = await stream_with(anonymous, execution_id, body["ticket"])
    again = await stream_with(anonymous, execution_id, body["ticket"])
    assert (made.status_code, set(body)) == (201, {"ticket", "expiresAt"})
    assert timedelta(seconds=50) < remaining <= timedelta(seconds=60)
    assert (answer.status_code, again.status_code) == (200, 200)
    assert "event: agent-start" in answer.text
    assert "event: execution-end" in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.slow
async def test_a_ticket_is_good_at_other_processes_too(start_service: StartService, models_config: Path) -> None:
    async with (
        start_service(models_config=models_config) as first,
        start_service(models_config=models_config) as second,
        httpx.AsyncClient(base_url=second.url) as client,
    ):
        run = await first.run_agent("plot-specialist-001", judge=False)
        answer = await stream_with(client, run["executionId"], await new_ticket(first, run["executionId"]))

    assert answer.status_code == 200


async def test_a_ticket_opens_nothing_but_the_stream_of_its_execution(
    shared_service: Service, anonymous: httpx.AsyncClient, execution_id: str
) -> None:
    (other,) = await insert_foreign_executions(shared_service, 1, status="completed")
    ticket = await new_ticket(shared_service, execution_id)

    elsewhere = await stream_with(anonymous, other, ticket)
    as_key = await anonymous.get("/api/v1/executions", headers={"Authorization": f"Bearer {ticket}"})
    on_others = [
        await anonymous.get(path, params={"ticket": ticket})
        for path in (f"/api/v1/executions/{execution_id}", f"/api/v1/executions/{execution_id}/events")
    ]
    renewed = await anonymous.post(ticket_path(execution_id), params={"ticket": ticket})

    assert_problem(elsewhere, 401, "not-authenticated")
    assert_problem(as_key, 401, "not-authenticated")
    assert [answer.status_code for answer in (*on_others, renewed)] == [401, 401, 401]


@pytest.mark.parametrize("ticket", ["", "st_", "nothing", "x" * 101, "st_" + "a" * 43, "\N{GRINNING FACE}", "a.b.c"])
async def test_an_invalid_ticket_opens_nothing(anonymous: httpx.AsyncClient, execution_id: str, ticket: str) -> None:
    answer = await stream_with(anonymous, execution_id, ticket)

    assert_problem(answer, 401, "not-authenticated")


async def test_a_key_counts_before_a_ticket(
    shared_service: Service, new_key: NewKey, anonymous: httpx.AsyncClient, execution_id: str
) -> None:
    ticket, key = await new_ticket(shared_service, execution_id), await new_key("viewer")

    by_key = await stream_with(anonymous, execution_id, "no ticket", **key)
    by_wrong_key = await stream_with(anonymous, execution_id, ticket, Authorization="Bearer wrong")

    assert by_key.status_code == 200
    assert_problem(by_wrong_key, 401, "not-authenticated")


async def test_an_expired_ticket_opens_nothing_and_is_removed(
    shared_service: Service, anonymous: httpx.AsyncClient, execution_id: str
) -> None:
    ticket = await new_ticket(shared_service, execution_id)
    tickets = shared_service.services.database["stream-tickets"]
    await tickets.update_many({"executionId": execution_id}, {"$set": {"expiresAt": datetime.now(UTC)}})

    assert_problem(await stream_with(anonymous, execution_id, ticket), 401, "not-authenticated")
    indexes = await tickets.index_information()
    assert indexes["expiresAt_1"]["expireAfterSeconds"] == 0


async def test_neither_the_ticket_nor_the_key_can_be_read_in_the_database(
    shared_service: Service, new_key: NewKey, execution_id: str
) -> None:
    key = await new_key("viewer")
    ticket = await new_ticket(shared_service, execution_id, key)

    stored = await shared_service.services.database["stream-tickets"].find({"executionId": execution_id}).to_list()

    assert len(stored) == 1
    assert ticket not in str(stored)
    assert key["Authorization"].removeprefix("Bearer ") not in str(stored)


async def test_tickets_are_for_those_who_may_see_the_execution(
    shared_service: Service, anonymous: httpx.AsyncClient, new_key: NewKey, execution_id: str
) -> None:
    elsewhere = await new_key("viewer", PROJECT)

    assert_problem(
        await shared_service.http.post(ticket_path(execution_id), headers=elsewhere), 404, "execution-not-found"
    )
    assert_problem(await shared_service.http.post(ticket_path("exec_none")), 404, "execution-not-found")
    assert_problem(await anonymous.post(ticket_path(execution_id)), 401, "not-authenticated")


@pytest.mark.slow
async def test_a_ticket_dies_with_its_key_and_so_does_the_stream_that_it_opened(service: Service, gate: Gate) -> None:
    made = (await service.http.post("/api/v1/api-keys", json={"name": "browser", "role": "viewer"})).json()
    key = {"Authorization": f"Bearer {made['key']}"}
    execution_id = await start_run(service, PROJECT)
    await gate.reached.wait()
    ticket = await new_ticket(service, execution_id, key)
    path = stream_path(execution_id)

    async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
        async with client.stream("GET", path, params={"ticket": ticket}) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "id: 1"
            await service.http.delete(f"/api/v1/api-keys/{made['id']}")
            async with asyncio.timeout(10):
                rest = [line async for line in lines]

        async def is_refused() -> bool:
            async with client.stream("GET", path, params={"ticket": ticket}) as answer:
                return answer.status_code == 401

        await wait_until(is_refused, seconds=5)
    gate.opened.set()

    assert "event: error" in rest
    assert any('"not-authenticated"' in line for line in rest)


@pytest.mark.slow
async def test_a_tokens_ticket_sees_what_the_token_sees_until_the_token_expires(
    start_service: StartService, models_config: Path
) -> None:
    claims: dict[str, Any] = {"role": "viewer", "sub": "ada", "projects": [PROJECT], "exp": time.time() + 60}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET)}"}
    async with (
        start_service(jwt_secret=SecretStr(SECRET), models_config=models_config) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        run = await service.run_agent("plot-specialist-001", judge=False)
        ticket = await new_ticket(service, run["executionId"], headers)
        answer = await stream_with(client, run["executionId"], ticket)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("app.services.access.tokens.LEEWAY_SECONDS", -120)
            expired = await stream_with(client, run["executionId"], ticket)

    assert (answer.status_code, expired.status_code) == (200, 401)


@pytest.mark.slow
async def test_an_anonymous_viewer_may_have_a_ticket_too(start_service: StartService, models_config: Path) -> None:
    async with (
        start_service(anonymous_role="viewer", models_config=models_config) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        run = await service.run_agent("plot-specialist-001", judge=False)
        made = await client.post(ticket_path(run["executionId"]))
        answer = await stream_with(client, run["executionId"], made.json()["ticket"])

    assert (made.status_code, answer.status_code) == (201, 200)


@pytest.mark.slow
async def test_guessing_tickets_is_slowed(start_service: StartService) -> None:
    async with (
        start_service(auth_failure_limit="2/minute") as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        (execution_id,) = await insert_foreign_executions(service, 1, status="completed")
        guesses = [(await stream_with(client, execution_id, f"{n}-guess")).status_code for n in range(4)]

    assert guesses == [401, 401, 429, 429]


@pytest.mark.slow
async def test_a_browser_follows_a_run_with_a_ticket(shared_service: Service, gate: Gate, project: str) -> None:
    if not CHROMIUM:
        pytest.skip("There is no Chromium on this machine (Debian's package is `chromium`).")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{shared_service.url}/healthz")
        execution_id = await start_run(shared_service, project)
        await gate.reached.wait()
        ticket = await new_ticket(shared_service, execution_id)
        url = f"{shared_service.url}{stream_path(execution_id)}?ticket={ticket}"
        following = asyncio.create_task(page.evaluate(FOLLOW, url))
        await page.wait_for_function("window.following")
        gate.opened.set()
        *events, end = await following
        await browser.close()

    assert events == await shared_service.events(execution_id)
    assert (end["type"], end["status"]) == ("execution-end", "completed")

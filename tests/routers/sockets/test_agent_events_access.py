"""Access to the event socket: by key, by origin, and to the executions that each caller may follow."""

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.routers.sockets import agent_events
from app.services.access.api_keys import ApiKeyStore
from tests.fixtures.http_api import Gate, NewKey, insert_foreign_executions, open_socket, start_run
from tests.fixtures.services import ADMIN_KEY, Service, StartService

NOBODY: dict[str, str] = {}


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {ADMIN_KEY}"}, {"X-API-Key": ADMIN_KEY}], ids=["bearer", "x-api-key"]
)
async def test_a_key_in_the_handshake_opens_the_socket(shared_service: Service, headers: dict[str, str]) -> None:
    async with open_socket(shared_service, headers) as socket:
        assert await socket.is_open()


async def test_a_key_in_the_first_message_opens_the_socket(shared_service: Service, project: str) -> None:
    execution_id = await start_run(shared_service, project)

    async with open_socket(shared_service, NOBODY) as socket:
        await socket.send(type="auth", token=ADMIN_KEY)
        answer = await socket.ask(type="subscribe", executionId=execution_id)

    assert answer["type"] == "subscribed"


async def test_a_silent_client_is_closed_when_the_time_to_authenticate_is_over(
    shared_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_events, "AUTH_SECONDS", 0.1)

    async with open_socket(shared_service, NOBODY) as socket:
        assert await socket.close_code() == 4408


@pytest.mark.parametrize(
    "first",
    [
        '{"type": "auth", "token": "there-is-no-such-key"}',
        '{"type": "auth", "token": ""}',
        '{"type": "auth"}',
        '{"type": "auth", "token": "\\ud800"}',
        '{"type": "ping"}',
        '{"type": "subscribe", "executionId": "exec_1"}',
        "not json",
        "[]",
        b"\x00\x01",
    ],
)
async def test_anything_but_a_valid_auth_message_closes_a_socket_that_has_no_key(
    shared_service: Service, first: str | bytes
) -> None:
    async with open_socket(shared_service, NOBODY) as socket:
        await socket.connection.send(first)

        assert await socket.close_code() == 4401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer there-is-no-such-key"},
        {"Authorization": f"Basic {ADMIN_KEY}"},
        {"Authorization": f"Bearer {ADMIN_KEY}", "X-API-Key": "another-one"},
    ],
)
async def test_wrong_credentials_in_the_handshake_close_the_socket(
    shared_service: Service, headers: dict[str, str]
) -> None:
    async with open_socket(shared_service, headers) as socket:
        assert await socket.close_code() == 4401


@pytest.mark.slow
async def test_a_failure_of_the_service_closes_the_socket_with_1011(
    shared_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise ArithmeticError

    async with open_socket(shared_service) as socket:
        with monkeypatch.context() as patched:
            patched.setattr(shared_service.services.hub, "head", crash)
            await socket.send(type="subscribe", executionId="exec_1")
            code = await socket.close_code()
    async with open_socket(shared_service, NOBODY) as socket:
        with monkeypatch.context() as patched:
            patched.setattr(ApiKeyStore, "find_caller", crash)
            await socket.send(type="auth", token="a-key")
            first = await socket.close_code()

    assert (code, first) == (1011, 1011)


async def test_a_key_in_the_query_string_is_ignored(shared_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_events, "AUTH_SECONDS", 0.1)

    async with connect(f"{shared_service.websocket_url}?token={ADMIN_KEY}&key={ADMIN_KEY}") as connection:
        await connection.wait_closed()

    assert connection.close_code == 4408


@pytest.mark.slow
async def test_the_anonymous_viewer_needs_no_key(start_service: StartService) -> None:
    async with start_service(anonymous_role="viewer") as service, open_socket(service, NOBODY) as socket:
        (execution_id,) = await insert_foreign_executions(service, 1)

        answer = await socket.ask(type="subscribe", executionId=execution_id)

    assert answer == {"type": "subscribed", "executionId": execution_id, "lastSeq": 0, "status": "pending"}


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://127.0.0.1", "https://127.0.0.1.evil.example"]
)
async def test_a_page_of_another_origin_cannot_open_a_socket(shared_service: Service, origin: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Origin": origin}

    with pytest.raises(InvalidStatus) as caught:
        async with open_socket(shared_service, headers):
            pass

    response = caught.value.response
    assert (response.status_code, response.headers["content-type"]) == (403, "application/problem+json")
    assert response.headers["x-request-id"]
    body = json.loads(response.body or b"")
    assert (body["code"], body["instance"]) == ("origin-not-allowed", "/api/agent-events")


@pytest.mark.slow
async def test_the_services_own_page_and_those_that_the_settings_list_can_open_a_socket(
    start_service: StartService,
) -> None:
    async with start_service(allowed_origins=("https://studio.example",)) as service:
        for origin in (service.url, "https://studio.example"):
            headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Origin": origin}
            async with open_socket(service, headers) as socket:
                assert await socket.is_open()


async def test_a_key_made_for_a_project_follows_its_own_executions_alone(
    shared_service: Service, new_key: NewKey, project: str
) -> None:
    own = await start_run(shared_service, project)
    foreign = await start_run(shared_service, "66f0a1b2c3d4e5f6012345aa")
    headers = await new_key("viewer", project.upper())

    async with open_socket(shared_service, headers) as socket:
        hidden = await socket.ask(type="subscribe", executionId=foreign)
        seen = await socket.ask(type="subscribe", executionId=own)

    assert (hidden["type"], hidden["code"]) == ("error", "execution-not-found")
    assert seen["type"] == "subscribed"


async def test_a_socket_that_changes_its_caller_stops_following_executions_hidden_from_the_new_one(
    shared_service: Service, new_key: NewKey, gate: Gate, project: str
) -> None:
    own = await start_run(shared_service, project)
    foreign = await start_run(shared_service, "66f0a1b2c3d4e5f6012345aa")
    token = (await new_key("viewer", project))["Authorization"].removeprefix("Bearer ")

    async with open_socket(shared_service) as socket:
        for execution_id in (own, foreign):
            assert (await socket.ask(type="subscribe", executionId=execution_id))["type"] == "subscribed"
            assert (await socket.receive())["type"] == "agent-start"
        told = await socket.ask(type="auth", token=token)
        gate.opened.set()
        rest = await socket.until_end()

        assert (told["type"], told["code"], told["executionId"]) == ("error", "execution-not-found", foreign)
        assert {message["executionId"] for message in rest} == {own}
        assert await socket.is_open()

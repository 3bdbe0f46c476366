"""The event client against a service whose connections are cut."""

import asyncio
from urllib.parse import urlparse

import pytest

from app.cli import event_client
from app.cli.event_client import EventClient, FollowingRefused
from tests.fixtures.http_api import insert_foreign_executions
from tests.fixtures.proxy import running_proxy
from tests.fixtures.services import ADMIN_KEY, Service

HEADERS = {"X-API-Key": ADMIN_KEY}


@pytest.mark.slow
async def test_a_client_that_is_cut_off_again_and_again_gets_every_event_once(
    shared_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_client, "FIRST_PAUSE_SECONDS", 0.01)
    rows = [{"event": {"type": "x", "text": "x" * 1000}} for _ in range(3000)]
    (execution_id,) = await insert_foreign_executions(shared_service, 1, status="completed", events=rows)
    seen: list[int | None] = []
    async with running_proxy(urlparse(shared_service.url).port or 0) as proxy:
        client = EventClient(f"http://127.0.0.1:{proxy.port}", HEADERS)
        async with asyncio.timeout(20):
            async for message in client.follow(execution_id):
                seen.append(message.get("seq"))
                if message.get("seq") in (10, 500, 2999):
                    await proxy.cut()
                    await proxy.mend()

    assert seen == [*range(1, 3001), None]


@pytest.mark.parametrize(
    ("headers", "execution_id", "said"),
    [({"X-API-Key": "there-is-no-such-key"}, "exec_1", "credentials"), (HEADERS, "exec_unknown", "no execution")],
    ids=["a bad key", "an unknown execution"],
)
async def test_a_refusal_is_final(
    shared_service: Service, headers: dict[str, str], execution_id: str, said: str
) -> None:
    with pytest.raises(FollowingRefused, match=said):
        await anext(EventClient(shared_service.url, headers).follow(execution_id))


async def test_a_service_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_client, "GIVE_UP_SECONDS", 0.3)

    with pytest.raises(FollowingRefused, match="is unavailable"):
        await anext(EventClient("http://127.0.0.1:1").follow("exec_1"))

"""Keys can be taken back, but never the last one that administers the service."""

import asyncio

import httpx
import pytest

from app.services.access import api_keys
from tests.conftest import Service, StartService
from tests.fixtures.waiting import wait_until


async def make_key(http: httpx.AsyncClient, role: str) -> dict[str, str]:
    """A new key."""
    return (await http.post("/api/v1/api-keys", json={"name": "of a test", "role": role})).json()


async def test_a_revoked_key_is_dead_within_five_seconds(service: Service) -> None:
    key = await make_key(service.http, "viewer")
    headers = {"Authorization": f"Bearer {key['key']}"}
    before = await service.http.get("/api/v1/executions", headers=headers)

    revoked = await service.http.delete(f"/api/v1/api-keys/{key['id']}")

    async def is_dead() -> bool:
        return (await service.http.get("/api/v1/executions", headers=headers)).status_code == 401

    await wait_until(is_dead, seconds=5)
    assert (before.status_code, revoked.status_code) == (200, 204)


async def test_an_unknown_key_is_not_found(service: Service) -> None:
    unknown = await service.http.delete("/api/v1/api-keys/66f0a1b2c3d4e5f601234567")
    malformed = await service.http.delete("/api/v1/api-keys/not-an-id")

    assert (unknown.status_code, malformed.status_code) == (404, 404)


async def test_of_two_last_admin_keys_one_stays_when_both_go_at_once(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "REMEMBER_SECONDS", 0.01)
    async with start_service() as service:
        keys = [await make_key(service.http, "admin") for _ in range(2)]
    async with start_service(admin_api_key=None) as service:
        answers = await asyncio.gather(
            *(
                service.http.delete(f"/api/v1/api-keys/{key['id']}", headers={"Authorization": f"Bearer {key['key']}"})
                for key in keys
            )
        )

    assert sorted(answer.status_code for answer in answers) == [204, 409]
    assert [answer.json()["code"] for answer in answers if answer.status_code == 409] == ["last-admin-key"]

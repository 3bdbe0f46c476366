"""Every write of a resource may say which version it is meant for; it is refused if another one is current."""

from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.fixtures.http_api import assert_problem
from tests.fixtures.services import Service

BASE = "/api/v1"
STALE = {"If-Match": '"stale"'}
WEIGHTS: dict[str, Any] = dict.fromkeys(
    ("confidence", "completeness", "relevance", "consistency", "creativity", "technical"), 0.5
)


def test_every_write_of_a_resource_accepts_if_match() -> None:
    document: dict[str, Any] = create_app(Settings(_env_file=None)).openapi()  # pyright: ignore[reportCallIssue]

    writes = {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in ("put", "patch", "delete")
    }

    assert len(writes) >= 13
    for name, operation in writes.items():
        assert "if-match" in [one["name"] for one in operation.get("parameters", [])], name
        assert "412" in operation["responses"], name


async def resource(service: Service, kind: str) -> tuple[str, dict[str, Any]]:
    """The path of a resource, and a change of it."""
    if kind == "execution":
        run = await service.run_agent("plot-specialist-001", judge=False)
        return run["links"]["self"], {"legalHold": True}
    if kind == "api-key":
        made = await service.http.post(f"{BASE}/api-keys", json={"name": "conditional", "role": "viewer"})
        return f"{BASE}/api-keys/{made.json()['id']}", {}
    if kind == "budget":
        path = f"{BASE}/budgets/agent:conditional-001"
        await service.http.put(path, json={"maxTokens": 1000, "period": "day"})
        return path, {"maxTokens": 2000, "period": "day"}
    return f"{BASE}/quality/weights/audio", WEIGHTS


async def change(service: Service, path: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    """Write a resource in its way: an execution by a patch, others as a whole."""
    method = "PATCH" if "/executions/" in path else "PUT"
    return await service.http.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize("kind", ["execution", "budget", "weights"])
async def test_a_change_of_another_version_is_refused_and_changes_nothing(shared_service: Service, kind: str) -> None:
    path, body = await resource(shared_service, kind)
    before = await shared_service.http.get(path)

    assert_problem(await change(shared_service, path, body, STALE), 412, "edited-meanwhile")
    unchanged = await shared_service.http.get(path)
    changed = await change(shared_service, path, body, {"If-Match": f'"other", {before.headers["ETag"]}'})
    after = await shared_service.http.get(path)

    assert (unchanged.json(), unchanged.headers["ETag"]) == (before.json(), before.headers["ETag"])
    assert changed.status_code == 200, changed.text
    assert changed.headers["ETag"] == after.headers["ETag"] != before.headers["ETag"]
    late = {"If-Match": before.headers["ETag"]}
    assert_problem(await change(shared_service, path, body, late), 412, "edited-meanwhile")
    assert (await change(shared_service, path, body, {"If-Match": "*"})).status_code == 200
    if kind == "execution":
        await shared_service.http.patch(path, json={"legalHold": False})
    assert (await shared_service.http.delete(path)).status_code == 204


@pytest.mark.parametrize("kind", ["execution", "api-key", "budget", "weights"])
async def test_a_deletion_of_another_version_is_refused(shared_service: Service, kind: str) -> None:
    path, _ = await resource(shared_service, kind)
    etag = (await shared_service.http.get(path)).headers["ETag"]

    assert_problem(await shared_service.http.delete(path, headers=STALE), 412, "edited-meanwhile")
    assert (await shared_service.http.get(path)).headers["ETag"] == etag
    deleted = await shared_service.http.delete(path, headers={"If-Match": etag})

    assert deleted.status_code == 204, deleted.text


async def test_a_budget_that_does_not_exist_is_not_the_version_that_is_meant(shared_service: Service) -> None:
    path = f"{BASE}/budgets/agent:never-set-001"

    refused = await shared_service.http.put(path, json={"maxTokens": 10, "period": "day"}, headers=STALE)

    assert_problem(refused, 412, "edited-meanwhile")
    assert (await shared_service.http.get(path)).status_code == 404
    assert_problem(await shared_service.http.delete(path, headers=STALE), 404, "budget-not-found")

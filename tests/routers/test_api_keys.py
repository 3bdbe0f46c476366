"""API keys over HTTP: made once, shown once, stored as a hash, for admins alone."""

from typing import Any

import pytest
from bson import ObjectId

from app.services.access.api_keys import hash_key
from tests.fixtures.http_api import NewKey, assert_problem, wrong_fields
from tests.fixtures.services import Service

KEYS = "/api/v1/api-keys"


async def test_a_new_key_is_shown_once_and_stored_only_as_a_hash(shared_service: Service) -> None:
    answer = await shared_service.http.post(KEYS, json={"name": "nightly runs", "role": "runner"})

    created = answer.json()
    assert answer.status_code == 201, answer.text
    assert {"id", "name", "role", "key", "createdAt"} <= set(created)
    assert (created["name"], created["role"], created["projects"]) == ("nightly runs", "runner", [])
    stored = await shared_service.services.database["api-keys"].find_one({"_id": ObjectId(created["id"])})
    assert stored is not None
    assert stored["keyHash"] == hash_key(created["key"])
    assert created["key"] not in str(stored)
    listed = (await shared_service.http.get(KEYS)).text
    assert created["id"] in listed
    assert created["key"] not in listed
    assert stored["keyHash"] not in listed


async def test_a_new_key_works_at_once_with_its_role(shared_service: Service, new_key: NewKey) -> None:
    await shared_service.http.get(KEYS, headers={"X-API-Key": "not-yet-a-key"})
    viewer, admin = await new_key("viewer"), await new_key("admin")

    assert (await shared_service.http.get("/api/v1/executions", headers=viewer)).status_code == 200
    assert (await shared_service.http.get(KEYS, headers=admin)).status_code == 200
    assert_problem(await shared_service.http.get(KEYS, headers=viewer), 403, "not-allowed")


async def test_no_two_keys_are_alike(new_key: NewKey) -> None:
    made = {(await new_key())["Authorization"] for _ in range(5)}

    assert len(made) == 5
    assert all(len(key) >= len("Bearer ") + 43 for key in made)


@pytest.mark.slow
async def test_keys_are_listed_as_any_list_is(service: Service) -> None:
    for name in ("b", "a", "c"):
        made = await service.http.post(KEYS, json={"name": name, "role": "viewer", "projects": [str(ObjectId())]})
        assert made.status_code == 201

    async def names(**params: str | int) -> list[list[str]]:
        """The names on each page."""
        pages: list[list[str]] = []
        cursor: dict[str, str] = {}
        while not pages or cursor:
            page = (await service.http.get(KEYS, params={**params, **cursor})).json()
            assert (set(page), page["total"]) == ({"items", "total", "nextCursor"}, 3)
            pages.append([key["name"] for key in page["items"]])
            cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else {}
        return pages

    assert await names() == [["b", "a", "c"]]
    assert await names(limit=2, sort="-createdAt") == [["c", "a"], ["b"]]
    assert await names(limit=1, sort="name") == [["a"], ["b"], ["c"]]
    page = (await service.http.get(KEYS)).json()
    assert {"id", "name", "role", "projects", "createdAt"} <= set(page["items"][-1])
    assert not {"key", "keyHash"} & set(page["items"][-1])


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=forged", "sort=keyHash", "role=admin"])
async def test_a_list_of_keys_that_cannot_be_is_422(shared_service: Service, query: str) -> None:
    assert wrong_fields(await shared_service.http.get(f"{KEYS}?{query}")) == [query.partition("=")[0]]


async def test_a_key_is_read_by_its_id_without_its_text(shared_service: Service) -> None:
    created = (await shared_service.http.post(KEYS, json={"name": "nightly runs", "role": "runner"})).json()

    answer = await shared_service.http.get(f"{KEYS}/{created['id']}")

    assert answer.status_code == 200
    assert answer.json() == {name: value for name, value in created.items() if name != "key"}
    for unknown in (str(ObjectId()), "not-an-id"):
        assert_problem(await shared_service.http.get(f"{KEYS}/{unknown}"), 404, "api-key-not-found")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name", "role"]),
        ({"name": "", "role": "viewer"}, ["name"]),
        ({"name": " \t\u00a0", "role": "viewer"}, ["name"]),
        ({"name": "x" * 201, "role": "viewer"}, ["name"]),
        ({"name": "x", "role": "root"}, ["role"]),
        ({"name": "x", "role": {"$ne": None}}, ["role"]),
        ({"name": "x", "role": "viewer", "projects": "all"}, ["projects"]),
        ({"name": "x", "role": "viewer", "projects": []}, ["projects"]),
        ({"name": "x", "role": "viewer", "projects": ["66f0a1b2c3d4e5f601234567", "66f0"]}, ["projects.1"]),
        ({"name": "x", "role": "viewer", "key": "chosen-by-myself"}, ["key"]),
        ({"name": "x", "role": "viewer", "keyHash": "0" * 64}, ["keyHash"]),
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_made_names_the_fields(
    shared_service: Service, body: dict[str, Any], fields: list[str]
) -> None:
    assert wrong_fields(await shared_service.http.post(KEYS, json=body)) == fields


@pytest.mark.parametrize("role", ["viewer", "runner"])
async def test_only_admins_make_keys(shared_service: Service, new_key: NewKey, role: str) -> None:
    answer = await shared_service.http.post(KEYS, json={"name": "x", "role": "admin"}, headers=await new_key(role))

    assert_problem(answer, 403, "not-allowed")

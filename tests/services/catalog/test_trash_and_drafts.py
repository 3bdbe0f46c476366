"""Entries that a Payload CMS has in its trash, or that were never published: shown as such, and unused by new runs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.database.connection import Database
from app.services.catalog.loader import DefinitionLoader, DepartmentWithoutHead
from tests.fixtures.services import PROJECT, Service
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

TRASHED = {"deletedAt": datetime(2026, 11, 20, tzinfo=UTC)}
DRAFT = {"_status": "draft"}
MARKS: list[tuple[dict[str, Any], str, str]] = [
    (TRASHED, "trashed", "trashed"),
    (DRAFT, "draft", "unpublished"),
    (TRASHED | DRAFT, "trashed", "trashed"),
    ({"deletedAt": "2026-11-20T00:00:00.000Z"}, "trashed", "trashed"),
]
ENTRIES = {"departments": ("slug", "story"), "agents": ("agentId", "plot-specialist-001")}


async def mark(database: Database, collection: str, name: str, fields: dict[str, Any]) -> None:
    """Change a document the way a CMS does: directly in the database."""
    key = {"departments": "slug", "agents": "agentId", "custom-tools": "toolName"}[collection]
    answer = await database[collection].update_one({key: name}, {"$set": fields})
    assert answer.matched_count == 1


async def states_of(service: Service, path: str, key: str) -> dict[str, str]:
    """The state of every entry of a list."""
    page = (await service.http.get(f"/api/v1/{path}", params={"limit": 100})).json()
    return {item[key]: item["state"] for item in page["items"]}


def loader_of(database: Database) -> DefinitionLoader:
    """A loader that remembers nothing."""
    return DefinitionLoader(database, ttl_seconds=0)


@pytest.mark.parametrize(("fields", "state", "code"), MARKS)
async def test_a_trashed_or_unpublished_entry_is_shown_as_such_and_refuses_runs(
    service: Service, fields: dict[str, Any], state: str, code: str
) -> None:
    for collection, (key, name) in ENTRIES.items():
        before = await states_of(service, collection, key)
        assert set(before.values()) == {"active"}

        await mark(service.services.database, collection, name, fields)

        shown = (await service.http.get(f"/api/v1/{collection}/{name}")).json()
        assert (shown["state"], shown["isActive"]) == (state, True)
        assert await states_of(service, collection, key) == before | {name: state}

        async def refusal(path: str = f"/api/v1/{collection}/{name}/runs") -> dict[str, Any]:
            return (await service.http.post(path, json={"prompt": "x", "project": PROJECT})).json()

        async def is_refused(kind: str = collection.removesuffix("s")) -> bool:
            return (await refusal())["code"] == f"{kind}-{code}"

        await wait_until(is_refused, seconds=2)
        assert repr(name) in (await refusal())["detail"]
        await mark(service.services.database, collection, name, {"deletedAt": None, "_status": "published"})
        assert await states_of(service, collection, key) == before


@pytest.mark.parametrize("fields", [TRASHED, DRAFT])
async def test_trashed_and_unpublished_specialists_tools_and_heads_are_not_offered(
    service: Service, fields: dict[str, Any]
) -> None:
    database = service.services.database
    team = await loader_of(database).get_team("story")
    agent = next(one for one in team.specialists if len(one.tools) > 1)

    await mark(database, "custom-tools", agent.tools[0].name, fields)
    remaining = [tool.name for tool in (await loader_of(database).get_agent(agent.agent_id)).tools]
    await mark(database, "agents", agent.agent_id, fields)
    smaller = await loader_of(database).get_team("story")
    accepted = await loader_of(database).get_team("story", accepted=True)
    await mark(database, "agents", team.head.agent_id, fields)
    orchestrated = [one.slug for one in await loader_of(database).list_departments() if one.is_active]
    await mark(database, "departments", "audio", fields)
    left = [one.slug for one in await loader_of(database).list_departments() if one.is_active]
    tools = await states_of(service, "custom-tools", "toolName")

    assert remaining == [tool.name for tool in agent.tools[1:]]
    assert [one.agent_id for one in smaller.specialists] == [
        one.agent_id for one in team.specialists if one.agent_id != agent.agent_id
    ]
    assert [one.agent_id for one in accepted.inactive_specialists] == [agent.agent_id]
    with pytest.raises(DepartmentWithoutHead):
        await loader_of(database).get_team("story")
    assert set(orchestrated) - set(left) == {"audio"}
    assert tools[agent.tools[0].name] == ("trashed" if fields is TRASHED else "draft")


async def test_a_run_that_was_accepted_before_keeps_its_agent(service: Service) -> None:
    database = service.services.database
    await mark(database, "agents", "plot-specialist-001", TRASHED)
    await mark(database, "departments", "story", DRAFT)

    agent = await loader_of(database).get_agent("plot-specialist-001", accepted=True)

    assert (agent.agent_id, agent.department.is_active) == ("plot-specialist-001", False)


async def test_a_trashed_head_is_named_when_another_is_made(service: Service) -> None:
    await mark(service.services.database, "agents", "story-head-001", TRASHED)

    answer = await service.http.patch("/api/v1/agents/plot-specialist-001", json={"isDepartmentHead": True})

    assert (answer.status_code, answer.json()["code"]) == (409, "department-has-head")
    assert "in the trash of the CMS" in answer.json()["detail"]


async def test_the_state_that_was_read_can_be_sent_back_and_changes_nothing(service: Service) -> None:
    shown = (await service.http.get("/api/v1/departments/story")).json()
    changed = await service.http.patch("/api/v1/departments/story", json=shown | {"state": "trashed", "name": "Tales"})

    assert (changed.status_code, changed.json()["state"], changed.json()["name"]) == (200, "active", "Tales")
    stored = await service.services.database["departments"].find_one({"slug": "story"})
    assert stored is not None
    assert not stored.keys() & {"state", "deletedAt", "_status"}


async def test_the_states_are_described_in_openapi(service: Service) -> None:
    schemas = (await service.http.get("/openapi.json")).json()["components"]["schemas"]

    assert schemas["CatalogState"]["enum"] == ["active", "inactive", "draft", "trashed"]
    assert "trash of the CMS" in schemas["CatalogState"]["description"]
    for name in ("DepartmentRead", "AgentRead", "CustomToolRead"):
        assert "CatalogState" in str(schemas[name]["properties"]["state"])

"""Documents that another program has damaged: an answer names their invalid fields, until a change corrects them."""

from typing import Any

import pytest

from app.kit.times import utc_now
from tests.fixtures.services import Service

pytestmark = pytest.mark.slow

DAMAGED = [
    ("agents", {"agentId": "odd"}, {"toolNames": "x"}, {"name": "New"}, {"toolNames": ["textStatistics"]}),
    ("departments", {"slug": "odd"}, {"name": ["x"]}, {"color": "#123abc"}, {"name": "New"}),
    ("custom-tools", {"toolName": "odd"}, {"displayName": ["x"]}, {"isActive": False}, {"displayName": "New"}),
    (
        "custom-tools",
        {"toolName": "odd"},
        {"inputSchema": "x", "exampleInputs": "x"},
        {"executeFunction": "(input) => input", "version": "1.0.1"},
        {
            "inputSchema": {"type": "object"},
            "exampleInputs": [],
            "executeFunction": "(input) => input",
            "version": "1.0.1",
        },
    ),
]


@pytest.mark.parametrize(("kind", "key", "damage", "harmless", "mending"), DAMAGED)
async def test_a_change_of_an_invalid_document_is_refused_unless_it_corrects_it(
    service: Service,
    kind: str,
    key: dict[str, str],
    damage: dict[str, Any],
    harmless: dict[str, Any],
    mending: dict[str, Any],
) -> None:
    collection = service.services.database[kind]
    await collection.insert_one({**key, **damage, "createdAt": utc_now()})
    before = await collection.find_one(key)
    path = f"/api/v1/{kind}/odd"

    read = await service.http.get(path)
    changes = [await service.http.patch(path, json=body) for body in (harmless, {})]
    after = await collection.find_one(key)
    mended = await service.http.patch(path, json=mending)

    assert [answer.status_code for answer in (read, *changes)] == [409] * 3
    assert {answer.json()["code"] for answer in (read, *changes)} == {"stored-document-invalid"}
    assert {error["path"] for error in read.json()["errors"]} == set(damage)
    assert after == before
    assert mended.status_code == 200, mended.text
    assert (await service.http.get(path)).json() == mended.json()


@pytest.mark.parametrize("unset", [{}, {"department": None}])
async def test_an_agent_without_a_department_becomes_a_head_together_with_one(
    service: Service, unset: dict[str, None]
) -> None:
    await service.services.database["agents"].insert_one({"agentId": "stray", **unset})
    department = {"slug": "costume", "name": "Costume", "description": "Dresses everybody."}
    await service.http.post("/api/v1/departments", json=department)
    path = "/api/v1/agents/stray"

    renamed = await service.http.patch(path, json={"name": "Stray"})
    alone = await service.http.patch(path, json={"isDepartmentHead": True})
    together = await service.http.patch(path, json={"isDepartmentHead": True, "department": "costume"})

    assert renamed.status_code == 200
    assert (alone.status_code, [error["path"] for error in alone.json()["errors"]]) == (422, ["department"])
    assert (together.status_code, together.json()["department"]) == (200, "costume")


async def test_a_head_that_another_program_left_without_a_department_can_still_be_changed(service: Service) -> None:
    await service.services.database["agents"].insert_one({"agentId": "stray", "isDepartmentHead": True})

    answer = await service.http.patch("/api/v1/agents/stray", json={"name": "Stray"})

    assert (answer.status_code, answer.json()["name"]) == (200, "Stray")

"""Writing documents that another program stored and nobody can read: as good as missing, until a change mends them."""

from typing import Any

import pytest

from app.models.base import utc_now
from tests.conftest import Service

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
async def test_a_change_of_what_cannot_be_read_is_refused_whole_unless_it_mends_it(
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

    assert [answer.status_code for answer in (read, *changes)] == [404] * 3
    assert {answer.json()["code"] for answer in changes} == {read.json()["code"]}
    assert after == before
    assert mended.status_code == 200, mended.text
    assert (await service.http.get(path)).json() == mended.json()

"""Budgets over HTTP: set, read, listed and deleted by admins, and what is refused."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.fixtures.http_api import NewKey, assert_problem, wrong_fields
from tests.fixtures.services import PROJECT, Service

BUDGETS = "/api/v1/budgets"


@pytest.fixture
async def no_budgets(shared_service: Service) -> AsyncGenerator[Service]:
    """The shared service without budgets; those of the test are deleted after it."""
    await delete_budgets(shared_service)
    yield shared_service
    await delete_budgets(shared_service)


async def delete_budgets(service: Service) -> None:
    """Delete all budgets of a service."""
    await service.services.database["agent-budgets"].delete_many({})
    await service.services.budgets.known.refresh()


async def test_a_budget_is_set_read_listed_and_deleted(no_budgets: Service) -> None:
    http = no_budgets.http
    body = {"maxTokens": 1000, "maxCostUsd": 0.1, "period": "day", "timezone": "Europe/Berlin", "alertAt": 0.5}

    answer = await http.put(f"{BUDGETS}/project:{PROJECT.upper()}", json=body)

    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in body} == body
    unused = {"usedTokens": 0, "reservedTokens": 0, "usedCostUsd": 0.0, "reservedCostUsd": 0.0}
    assert answer.json() == body | unused | {"scope": f"project:{PROJECT}", "resetsAt": answer.json()["resetsAt"]}
    assert answer.json()["resetsAt"].endswith(":00:00.000Z")
    assert (await http.get(f"{BUDGETS}/project:{PROJECT}")).json() == answer.json()
    assert (await http.get(BUDGETS)).json() == {"items": [answer.json()], "total": 1, "nextCursor": None}
    assert (await http.delete(f"{BUDGETS}/project:{PROJECT}")).status_code == 204
    assert_problem(await http.get(f"{BUDGETS}/project:{PROJECT}"), 404, "budget-not-found")
    assert_problem(await http.delete(f"{BUDGETS}/project:{PROJECT}"), 404, "budget-not-found")
    assert (await http.get(BUDGETS)).json()["items"] == []


async def test_defaults(no_budgets: Service) -> None:
    answer = await no_budgets.http.put(f"{BUDGETS}/global", json={"maxTokens": 2**53, "period": "total"})

    assert answer.json() == {
        "scope": "global",
        "maxTokens": 2**53,
        "maxCostUsd": None,
        "period": "total",
        "timezone": "UTC",
        "alertAt": 0.8,
        "usedTokens": 0,
        "reservedTokens": 0,
        "usedCostUsd": 0.0,
        "reservedCostUsd": 0.0,
        "resetsAt": None,
    }


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"maxTokens": 0}, ["maxTokens"]),
        ({"maxTokens": -1}, ["maxTokens"]),
        ({"maxTokens": 2**53 + 1}, ["maxTokens"]),
        ({"maxTokens": 10**400}, ["maxTokens"]),
        ({"maxTokens": 1.5}, ["maxTokens"]),
        ({"maxTokens": "10"}, ["maxTokens"]),
        ({"maxTokens": True}, ["maxTokens"]),
        ({"maxCostUsd": 0}, ["maxCostUsd"]),
        ({"maxCostUsd": -0.01}, ["maxCostUsd"]),
        ({"maxCostUsd": 1e-13}, ["maxCostUsd"]),
        ({"maxCostUsd": 1e17}, ["maxCostUsd"]),
        ({"maxCostUsd": "1"}, ["maxCostUsd"]),
        ({"period": "week"}, ["period"]),
        ({"period": None}, ["period"]),
        ({"timezone": "Mars/Olympus"}, ["timezone"]),
        ({"timezone": "../../etc/passwd"}, ["timezone"]),
        ({"timezone": "America"}, ["timezone"]),
        ({"timezone": ""}, ["timezone"]),
        ({"alertAt": 1.01}, ["alertAt"]),
        ({"alertAt": -0.1}, ["alertAt"]),
        ({"alertAt": None}, ["alertAt"]),
        ({"usedTokens": 3}, ["usedTokens"]),
        ({"maxTokens": None}, ["maxTokens", "maxCostUsd"]),
    ],
)
async def test_bad_limits_are_refused_by_their_fields(
    no_budgets: Service, change: dict[str, Any], paths: list[str]
) -> None:
    body = {"maxTokens": 10, "period": "day"} | change

    answer = await no_budgets.http.put(f"{BUDGETS}/global", json=body)

    assert_problem(answer, 422, "validation-error")
    assert wrong_fields(answer) == paths
    assert_problem(await no_budgets.http.get(f"{BUDGETS}/global"), 404, "budget-not-found")


async def test_a_period_and_a_limit_are_required(no_budgets: Service) -> None:
    assert wrong_fields(await no_budgets.http.put(f"{BUDGETS}/global", json={"maxTokens": 5})) == ["period"]
    without = await no_budgets.http.put(f"{BUDGETS}/global", json={"period": "day"})
    assert wrong_fields(without) == ["maxTokens", "maxCostUsd"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_not_finite_are_refused(no_budgets: Service, number: str) -> None:
    answer = await no_budgets.http.put(
        f"{BUDGETS}/global",
        content=f'{{"maxCostUsd": {number}, "period": "day"}}',
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize(
    "scope",
    ["planet:earth", "Global", "global:", "project", "project:", "project:1", "run:exec_1", "agent:", "key: x", "xyz"],
)
async def test_unknown_scopes_are_refused(no_budgets: Service, scope: str) -> None:
    answer = await no_budgets.http.put(f"{BUDGETS}/{scope}", json={"maxTokens": 1, "period": "day"})

    assert_problem(answer, 422, "validation-error")
    assert wrong_fields(answer) == ["scope"]


async def test_budgets_are_for_service_admins(no_budgets: Service, new_key: NewKey) -> None:
    body = {"maxTokens": 1, "period": "day"}
    for role in ("viewer", "runner"):
        headers = await new_key(role)
        assert_problem(await no_budgets.http.get(BUDGETS, headers=headers), 403, "not-allowed")
        answer = await no_budgets.http.put(f"{BUDGETS}/global", json=body, headers=headers)
        assert_problem(answer, 403, "not-allowed")
        assert_problem(await no_budgets.http.delete(f"{BUDGETS}/global", headers=headers), 403, "not-allowed")


async def test_pages_continue_after_the_last_scope(no_budgets: Service) -> None:
    for scope in ("agent:b", "agent:a", "key:k", "department:story"):
        await no_budgets.http.put(f"{BUDGETS}/{scope}", json={"maxTokens": 1, "period": "day"})
    first = (await no_budgets.http.get(BUDGETS, params={"limit": 3})).json()
    second = (await no_budgets.http.get(BUDGETS, params={"limit": 3, "cursor": first["nextCursor"]})).json()

    assert [one["scope"] for one in first["items"] + second["items"]] == [
        "agent:a",
        "agent:b",
        "department:story",
        "key:k",
    ]
    assert (first["total"], second["nextCursor"]) == (4, None)

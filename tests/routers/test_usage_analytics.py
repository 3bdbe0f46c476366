"""`/analytics/usage` and `/analytics/cache` over HTTP: what they add up, for whom, and which ranges they refuse."""

from typing import Any

import httpx
import pytest
from beanie import init_beanie

from app.database.connection import DOCUMENTS
from app.models.api_key import ApiKey
from app.models.usage_bucket import UsageBucket, UsageDetail, UsageHour
from tests.fixtures.http_api import NewKey
from tests.fixtures.ledger_rows import History, count, row_of
from tests.fixtures.services import Service

USAGE, CACHE = "/api/v1/analytics/usage", "/api/v1/analytics/cache"
PROJECT, OTHER_PROJECT = "66f0a1b2c3d4e5f601239901", "66f0a1b2c3d4e5f601239902"
JUNE = {"from": "2025-06-01", "to": "2025-07-01"}
"""Before any real run of the shared service."""
FIRST, SECOND = "2025-06-10T09:59:59.999Z", "2025-06-11T10:00:00.000Z"


@pytest.fixture(autouse=True)
async def bound_documents(shared_service: Service) -> None:
    """Bind the documents to the shared service's database, which other tests may have changed."""


@pytest.fixture(scope="module")
async def counted_service(session_service: Service) -> tuple[Service, str]:
    """The shared service with some counted calls, and the id of the key that made some of them."""
    database = session_service.services.database
    await init_beanie(database=database, document_models=list(DOCUMENTS), skip_indexes=True)
    for document in (UsageBucket, UsageDetail, UsageHour):
        await database[document.get_collection_name()].delete_many({"period": {"$regex": "^2025"}})
    body = {"name": "of the night shift", "role": "runner"}
    key = (await session_service.http.post("/api/v1/api-keys", json=body)).json()["id"]
    hit = {"cached": True, "cacheStatus": "hit", "inputTokens": 0, "outputTokens": 0, "costUsd": 0.0}
    audio = {"department": "audio", "agent": "composer-001", "project": OTHER_PROJECT, "apiKey": key}
    await count(
        database,
        History(
            [
                row_of(FIRST, project=PROJECT, cacheStatus="miss"),
                row_of(FIRST, project=PROJECT, purpose="judge", model="openai/gpt-4.1", costUsd=0.0000000375),
                row_of(SECOND, project=PROJECT, **hit, savedTokens=110, savedCostUsd=0.25),
            ],
            tags=("night", "draft"),
        ),
        History(
            [row_of(SECOND, **audio, outcome="error", costUsd=0.0, inputTokens=0, outputTokens=0)], tags=("night",)
        ),
        History(
            [
                row_of(SECOND, **audio, priceStatus="unpriced", costUsd=None, model="local/free", cacheStatus="miss"),
                row_of(SECOND, **audio | hit, savedTokens=50, priceStatus="unpriced", model="local/free"),
            ]
        ),
    )
    return session_service, key


@pytest.fixture
async def service(counted_service: tuple[Service, str], shared_service: Service) -> Service:
    """The same for one test."""
    assert counted_service[0] is shared_service
    return shared_service


@pytest.fixture
def api_key(counted_service: tuple[Service, str]) -> str:
    """The id of the key that started the runs of the other project."""
    return counted_service[1]


async def read(http: httpx.AsyncClient, path: str = USAGE, **query: str) -> dict[str, Any]:
    """The answer about June, unless said otherwise."""
    answer = await http.get(path, params=JUNE | {name.removesuffix("_"): value for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_usage_adds_up_all_calls(service: Service) -> None:
    assert await read(service.http) == {
        "totalTokens": 330,
        "averagePerExecution": 110.0,
        "costEstimate": 0.0010000375,
        "executions": 3,
        "calls": 5,
        "failedCalls": 1,
        "cachedCalls": 2,
        "unpricedCalls": 2,
        "byDepartment": {"audio": 110, "story": 220},
        "groups": [],
    }


async def test_a_group_shows_every_figure(service: Service) -> None:
    found = await read(service.http, groupBy="department", department="audio")

    assert found["groups"] == [
        {
            "key": "audio",
            "label": None,
            "executions": 2,
            "calls": 2,
            "failedCalls": 1,
            "cachedCalls": 1,
            "inputTokens": 100,
            "outputTokens": 10,
            "totalTokens": 110,
            "savedTokens": 50,
            "costUsd": 0.0,
            "unpricedCalls": 2,
        }
    ]


@pytest.mark.parametrize(
    ("grouping", "groups"),
    [
        ("day", {"2025-06-10": (1, 2), "2025-06-11": (3, 3)}),
        ("department", {"audio": (2, 2), "story": (1, 3)}),
        ("agent", {"composer-001": (2, 2), "plot-specialist-001": (1, 3)}),
        ("model", {"anthropic/claude-3.5-sonnet": (2, 2), "local/free": (1, 2), "openai/gpt-4.1": (1, 1)}),
        ("purpose", {"judge": (1, 1), "work": (3, 4)}),
        ("project", {PROJECT: (1, 3), OTHER_PROJECT: (2, 2)}),
        ("tag", {"draft": (1, 3), "night": (2, 3)}),
    ],
)
async def test_usage_is_grouped_in_the_order_of_the_keys(
    service: Service, grouping: str, groups: dict[str, tuple[int, int]]
) -> None:
    found = await read(service.http, groupBy=grouping)

    assert [(group["key"], group["executions"], group["calls"]) for group in found["groups"]] == [
        (key, *figures) for key, figures in groups.items()
    ]


async def test_an_api_key_is_shown_by_id_and_name_while_it_exists(service: Service, api_key: str) -> None:
    named = (await read(service.http, groupBy="apiKey"))["groups"]
    key = await ApiKey.get(api_key)
    assert key is not None
    await key.delete()
    revoked = (await read(service.http, groupBy="apiKey"))["groups"]
    await key.insert()

    assert [(group["key"], group["label"]) for group in named] == [(api_key, "of the night shift"), (None, None)]
    assert [(group["key"], group["label"]) for group in revoked] == [(api_key, None), (None, None)]


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ({"project": PROJECT}, 3),
        ({"project": OTHER_PROJECT.upper()}, 2),
        ({"project": "66f0a1b2c3d4e5f601239903"}, 0),
        ({"department": "story"}, 3),
        ({"department": "nowhere"}, 0),
        ({"agent": "composer-001"}, 2),
        ({"agent": "composer-001", "project": PROJECT}, 0),
        ({"tag": "draft"}, 3),
        ({"tag": "draft", "department": "audio"}, 0),
        ({"apiKey": "66f0a1b2c3d4e5f601239904"}, 0),
        ({"from": "2025-06-11"}, 3),
        ({"to": "2025-06-11"}, 2),
        ({"from": "2025-06-10T09:00:00Z", "to": "2025-06-10T10:00:00Z"}, 2),
        ({"from": "2025-06-10T10:00Z", "to": "2025-06-11T10:00:00.000Z"}, 0),
        ({"from": "2025-06-11T12:00:00+02:00", "to": "2025-06-11T11:00"}, 3),
    ],
)
async def test_filters_choose_the_calls(service: Service, query: dict[str, str], calls: int) -> None:
    answer = await service.http.get(USAGE, params=JUNE | query)

    assert answer.json()["calls"] == calls


async def test_the_calls_of_a_key_are_counted_by_its_id(service: Service, api_key: str) -> None:
    assert (await read(service.http, apiKey=api_key))["byDepartment"] == {"audio": 110}


async def test_without_calls_there_is_nothing_to_divide(service: Service) -> None:
    empty = {"from": "2025-01-01", "to": "2025-01-02", "groupBy": "day"}

    usage = (await service.http.get(USAGE, params=empty)).json()
    cache = (await service.http.get(CACHE, params={"from": "2025-01-01", "to": "2025-01-02"})).json()

    assert (usage["averagePerExecution"], usage["costEstimate"], usage["groups"]) == (None, None, [])
    assert cache == {"hits": 0, "misses": 0, "hitRate": None, "savedTokens": 0, "savedCostUsd": None}


async def test_the_cost_of_unpriced_calls_is_unknown(service: Service) -> None:
    found = await read(service.http, groupBy="model")

    assert [(group["key"], group["costUsd"]) for group in found["groups"]] == [
        ("anthropic/claude-3.5-sonnet", 0.001),
        ("local/free", None),
        ("openai/gpt-4.1", 0.0000000375),
    ]


async def test_the_cache_shows_hits_misses_and_savings(service: Service, api_key: str) -> None:
    assert await read(service.http, CACHE) == {
        "hits": 2,
        "misses": 2,
        "hitRate": 0.5,
        "savedTokens": 160,
        "savedCostUsd": 0.25,
    }
    assert (await read(service.http, CACHE, apiKey=api_key))["savedCostUsd"] is None
    assert (await read(service.http, CACHE, tag="draft", department="story"))["hits"] == 1


async def test_a_key_of_certain_projects_counts_those_alone(service: Service, new_key: NewKey) -> None:
    headers = await new_key("viewer", OTHER_PROJECT.upper())
    async with httpx.AsyncClient(base_url=service.url, headers=headers) as viewer:
        for grouping in ("day", "department", "agent", "model", "purpose", "project", "apiKey", "tag"):
            found = await read(viewer, groupBy=grouping)
            assert (found["calls"], found["byDepartment"]) == (2, {"audio": 110}), grouping
            assert sum(group["calls"] for group in found["groups"]) == (0 if grouping == "tag" else 2), grouping
        assert (await read(viewer, project=PROJECT, groupBy="project"))["groups"] == []
        assert (await read(viewer, CACHE))["hits"] == 1


async def test_usage_needs_a_viewer(service: Service, anonymous: httpx.AsyncClient) -> None:
    for path in (USAGE, CACHE):
        assert (await anonymous.get(path)).status_code == 401


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"from": "2025-06-10T09:30:00Z"}, "from"),
        ({"to": "2025-06-10T09:00:01Z"}, "to"),
        ({"to": "2025-06-10T09:00:00.001Z"}, "to"),
        ({"from": "2025-06-10T09:00:00+05:30"}, "from"),
        ({"from": "2025-02-30"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"from": "1749549600"}, "from"),
        ({"from": "2025-06-10", "to": "2025-06-10"}, "to"),
        ({"from": "2025-06-11", "to": "2025-06-10T23:00:00Z"}, "to"),
        ({"project": "no-id"}, "project"),
    ],
)
async def test_an_invalid_range_or_filter_is_refused(service: Service, query: dict[str, str], path: str) -> None:
    for route in (USAGE, CACHE):
        answer = await service.http.get(route, params=query)

        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["path"].endswith(path)


@pytest.mark.parametrize("query", [{"groupBy": "week"}, {"groupBy": ""}, {"group": "day"}])
async def test_an_unknown_grouping_or_parameter_is_refused(service: Service, query: dict[str, str]) -> None:
    assert (await service.http.get(USAGE, params=query)).status_code == 422


async def test_far_ranges_are_answered(service: Service) -> None:
    far = {"from": "0001-01-01", "to": "9999-12-31T23:00:00Z", "groupBy": "day"}

    found = (await service.http.get(USAGE, params=far)).json()

    assert [group["key"] for group in found["groups"]][:2] == ["2025-06-10", "2025-06-11"]

"""Quality analytics over the API: real runs, and figures counted by hand."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from bson import ObjectId

from app.database.connection import Raw
from app.services.quality.analytics import FACETS, FIELDS
from tests.database.test_indexes import stages_of
from tests.fixtures.model_server import Call, ModelServer, Reply, judgment, plan_of, review
from tests.fixtures.services import PROJECT, Service

ANALYTICS = "/api/v1/analytics/quality"
OTHER_PROJECT = "66f0a1b2c3d4e5f601234500"
SPECIALIST = {"name": "specialist", "passed": True}
FAILED = {"name": "specialist", "passed": False}


async def read(service: Service, **query: str) -> dict[str, Any]:
    """The analytics."""
    answer = await service.http.get(ANALYTICS, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def insert(service: Service, *rows: Raw) -> None:
    """Ended executions of the plot specialist on the first of November, unless said otherwise."""
    database = service.services.database
    agents = {raw["agentId"]: raw async for raw in database["agents"].find({})}
    documents: list[Raw] = []
    for number, row in enumerate(rows):
        agent = agents[row.pop("agentId", "plot-specialist-001")]
        base = {
            "executionId": f"exec_{ObjectId()}_{number}",
            "status": "completed",
            "agent": agent["_id"],
            "department": agent["department"],
            "project": ObjectId(PROJECT),
            "startedAt": datetime(2026, 11, 1, 12, tzinfo=UTC),
            "qualityThreshold": 80.0,
            "retryCount": 0,
            "reviewStatus": "approved",
            "qualityGate": SPECIALIST,
        }
        documents.append({name: value for name, value in (base | row).items() if value is not None})
    await database["agent-executions"].insert_many(documents)


@pytest.mark.slow
async def test_without_executions_there_is_nothing_to_divide(service: Service) -> None:
    assert await read(service) == {
        "executions": 0,
        "averageScore": None,
        "meetingThreshold": None,
        "target": 0.8,
        "revisionRate": None,
        "gates": [],
        "reviews": {"pending": 0, "approved": 0, "rejected": 0, "revisionNeeded": 0},
        "agreement": {"reviewed": 0, "agreed": 0, "share": None},
        "byDepartment": [],
        "byAgent": [],
        "byDay": [],
    }


@pytest.mark.slow
async def test_the_figures_are_those_counted_by_hand(service: Service) -> None:
    second = datetime(2026, 11, 2, 23, 59, tzinfo=UTC)
    await insert(
        service,
        {"qualityScore": 90.0},
        {"qualityScore": 80.0, "retryCount": 2},
        {"qualityScore": 40.0, "qualityGate": FAILED, "reviewStatus": "rejected", "startedAt": second},
        {"qualityScore": None, "qualityGate": FAILED, "reviewStatus": "pending"},
        {"agentId": "composer-001", "qualityScore": 70, "startedAt": second, "reviewStatus": "revision-needed"},
        {"qualityGate": None, "qualityScore": 10.0},  # not judged by us
    )

    found = await read(service)

    assert (found["executions"], found["averageScore"]) == (5, 70.0)
    assert (found["meetingThreshold"], found["revisionRate"]) == (0.5, 0.2)
    assert found["gates"] == [{"name": "specialist", "executions": 5, "passed": 3, "unscored": 1, "passRate": 0.6}]
    assert found["reviews"] == {"pending": 1, "approved": 2, "rejected": 1, "revisionNeeded": 1}
    story = {
        "executions": 4,
        "averageScore": 70.0,
        "gatePassRate": 0.5,
        "meetingThreshold": 0.6667,
        "revisionRate": 0.25,
    }
    audio = {"executions": 1, "averageScore": 70.0, "gatePassRate": 1, "meetingThreshold": 0.0, "revisionRate": 0}
    assert found["byDepartment"] == [{"key": "audio", **audio}, {"key": "story", **story}]
    assert found["byAgent"] == [{"key": "composer-001", **audio}, {"key": "plot-specialist-001", **story}]
    assert [(day["key"], day["executions"], day["averageScore"]) for day in found["byDay"]] == [
        ("2026-11-01", 3, 85.0),
        ("2026-11-02", 2, 55.0),
    ]


@pytest.mark.parametrize(
    ("query", "executions"),
    [
        ({"project": PROJECT}, 3),
        ({"project": OTHER_PROJECT}, 1),
        ({"project": "66f0a1b2c3d4e5f601234511"}, 0),
        ({"department": "story"}, 3),
        ({"department": "nowhere"}, 0),
        ({"agent": "composer-001"}, 1),
        ({"agent": "unknown-001"}, 0),
        ({"department": "audio", "agent": "plot-specialist-001"}, 0),
        ({"from": "2026-11-02"}, 1),
        ({"from": "2026-11-01T12:00:00Z", "to": "2026-11-02T00:00:00Z"}, 3),
        ({"to": "2026-11-01T12:00:00Z"}, 0),
    ],
)
async def test_filters_choose_the_executions(analyzed: Service, query: dict[str, str], executions: int) -> None:
    assert (await read(analyzed, **query))["executions"] == executions


@pytest.fixture(scope="module")
async def analyzed_service(session_service: Service) -> Service:
    """The executions of the filters' test, in the shared service's database."""
    await session_service.services.database["agent-executions"].delete_many({})
    await insert(
        session_service,
        {"qualityScore": 90.0},
        {"qualityScore": 90.0, "startedAt": datetime(2026, 11, 2, tzinfo=UTC)},
        {"qualityScore": 90.0, "project": ObjectId(OTHER_PROJECT)},
        {"qualityScore": 90.0, "agentId": "composer-001"},
    )
    return session_service


@pytest.fixture
async def analyzed(analyzed_service: Service, shared_service: Service) -> Service:
    """The same for one test."""
    assert analyzed_service is shared_service
    return shared_service


async def test_a_key_of_certain_projects_counts_those_alone(analyzed: Service) -> None:
    body = {"name": "one project", "role": "viewer", "projects": [OTHER_PROJECT.upper()]}
    key = (await analyzed.http.post("/api/v1/api-keys", json=body)).json()["key"]

    async with httpx.AsyncClient(base_url=analyzed.url, headers={"X-API-Key": key}) as viewer:
        all_seen = (await viewer.get(ANALYTICS)).json()
        elsewhere = (await viewer.get(ANALYTICS, params={"project": PROJECT})).json()

    assert (all_seen["executions"], elsewhere["executions"]) == (1, 0)


@pytest.mark.slow
async def test_reviews_by_people_are_compared_with_the_judge(service: Service) -> None:
    await insert(
        service,
        {"personReview": {"status": "approved", "passed": True}},
        {"personReview": {"status": "rejected", "passed": False}, "qualityGate": FAILED},
        {"personReview": {"status": "revision-needed", "passed": False}, "qualityGate": FAILED},
        {"personReview": {"status": "rejected", "passed": True}},
        {"personReview": {"status": "approved", "passed": None}},  # the judge had not spoken
        {},
    )

    assert (await read(service))["agreement"] == {"reviewed": 4, "agreed": 3, "share": 0.75}


@pytest.mark.slow
async def test_real_runs_are_counted_with_their_revisions_gates_and_reviews(
    service: Service, model_server: ModelServer
) -> None:
    def judge(call: Call) -> Reply:
        return judgment(**dict.fromkeys(("completeness", "relevance"), 0.1)) if "First." in call.text else judgment()

    drafts = iter(("First.", "Second."))
    model_server.on("plan", plan_of(("composer-001", "Compose.", [])))
    model_server.on("work", lambda _: next(drafts))
    model_server.on("judge", judge)
    decisions = iter((review("revision-needed", "More."), review("approved")))
    model_server.on("review", lambda _: next(decisions))
    done = await service.run_department("audio")
    child = done["output"]["report"]["specialists"][0]["executionId"]
    await service.http.post(f"/api/v1/executions/{child}/review", json={"status": "rejected"})

    found = await read(service)

    assert (found["executions"], found["averageScore"], found["revisionRate"]) == (2, 90.0, 0.5)
    assert {(gate["name"], gate["passed"]) for gate in found["gates"]} == {("specialist", 1), ("department", 1)}
    assert found["reviews"] == {"pending": 1, "approved": 0, "rejected": 1, "revisionNeeded": 0}
    assert found["agreement"] == {"reviewed": 1, "agreed": 0, "share": 0.0}
    assert [group["key"] for group in found["byAgent"]] == ["audio-head-001", "composer-001"]


async def test_the_figures_come_from_an_index_alone(analyzed: Service) -> None:
    selector = {"qualityGate.name": {"$gt": ""}, "startedAt": {"$gte": datetime(1970, 1, 1, tzinfo=UTC)}}
    command = {
        "aggregate": "agent-executions",
        "pipeline": [{"$match": selector}, {"$project": FIELDS}, {"$facet": FACETS}],
        "cursor": {},
    }

    plan = await analyzed.services.database.command({"explain": command, "verbosity": "queryPlanner"})

    stages = set(stages_of(plan))
    assert "IXSCAN" in stages
    assert not stages & {"COLLSCAN", "FETCH"}

"""Every query of the API goes along an index: what is explained is what the service really sent."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import monitoring

from app.database import connection as database_module
from app.database.connection import Raw
from tests.fixtures.services import PROJECT, Service, StartService

pytestmark = pytest.mark.slow

LISTS = (
    *(
        f"agents?{filters}&sort={sort}"
        for filters, sort in itertools.product(
            ("", "department=story", "isActive=true", "isDepartmentHead=true", "isDepartmentHead=false", "q=plot"),
            ("agentId", "-agentId"),
        )
    ),
    *(f"agents?sort={sort}" for sort in ("name", "-name", "createdAt", "-createdAt")),
    *(f"departments?sort={sort}" for sort in ("priority", "-priority", "slug", "name", "-createdAt")),
    *(f"custom-tools?sort={sort}" for sort in ("toolName", "-toolName", "createdAt")),
    *(
        f"executions?{filters}&sort={sort}"
        for filters, sort in itertools.product(
            (
                "",
                f"project={PROJECT}",
                "agent=plot-specialist-001",
                "department=story",
                "status=completed",
                "reviewStatus=approved",
                "kind=department",
                "rootExecutionId=exec_1",
                "conversationId=c",
                "from=2026-01-01T00:00:00Z",
                "q=plot+fish",
                "minCostUsd=0.5",
                "apiKey=k",
                "episode=66f0a1b2c3d4e5f6a7b8c9d0",
                "awaiting=review",
                "isRoot=true",
            ),
            ("startedAt", "-startedAt", "-createdAt"),
        )
    ),
)


class Recorder(monitoring.CommandListener):
    """Keeps the reading commands that the driver sends."""

    def __init__(self) -> None:
        self.commands: list[Raw] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Keep one."""
        if event.command_name in ("find", "aggregate"):
            self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to do."""


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Record the commands that the services of this test send to MongoDB."""
    recorder = Recorder()
    client: Any = database_module.AsyncMongoClient

    def recorded(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own signature
        return client(*arguments, event_listeners=[recorder], **options)

    monkeypatch.setattr(database_module, "AsyncMongoClient", recorded)
    return recorder


def stages_of(plan: Any) -> Iterator[str]:  # noqa: ANN401 - any part of a plan
    """The stages in a winning plan."""
    if isinstance(plan, dict):
        if "stage" in plan:
            yield plan["stage"]
        for name, part in plan.items():
            if name != "rejectedPlans":
                yield from stages_of(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from stages_of(part)


async def explained(service: Service, command: Raw) -> list[str]:
    """The stages with which the server answers a command."""
    bare = {
        name: value for name, value in command.items() if name not in ("lsid", "$db", "$clusterTime", "readConcern")
    }
    bare.pop("maxTimeMS", None)
    far_dates = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    plan = await service.services.database.command(
        {"explain": bare, "verbosity": "queryPlanner"}, codec_options=far_dates
    )
    return list(stages_of(plan))


async def test_no_list_of_the_api_scans_a_collection(start_service: StartService, recorder: Recorder) -> None:
    scanned: list[str] = []
    async with start_service() as service:
        await service.services.database["agent-executions"].insert_many(
            [{"executionId": f"exec_{n}", "status": "completed", "kind": "agent"} for n in range(50)]
        )
        for path in LISTS:
            recorder.commands.clear()
            answer = await service.http.get(f"/api/v1/{path}&limit=5")
            assert answer.status_code == 200, answer.text
            for command in list(recorder.commands):
                if "COLLSCAN" in await explained(service, command) and not reads_slugs(command):
                    scanned.append(f"{path}: {command}")

    assert scanned == []


def reads_slugs(command: Raw) -> bool:
    """The slugs of all departments, which every answer about agents needs, are read on purpose."""
    return (
        command.get("find") == "departments" and not command.get("filter") and "slug" in command.get("projection", {})
    )


async def test_no_query_of_a_department_run_scans_a_collection(start_service: StartService, recorder: Recorder) -> None:
    scanned: list[Raw] = []
    async with start_service() as service:
        recorder.commands.clear()
        done = await service.run_department("audio")
        for rest in ("", "/tree", "/events"):
            await service.http.get(f"/api/v1/executions/{done['executionId']}{rest}")
        for command in list(recorder.commands):
            if "COLLSCAN" in await explained(service, command):
                scanned.append(command)

    assert scanned == []

"""A database that version 0.1.0 wrote is read, continued, retried and reviewed by this version."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import json_util
from pymongo import IndexModel

from app.database.connection import DOCUMENTS, Database, connect, expected_indexes
from app.models.agent_execution import AgentExecution
from app.services.retention.passes import RetentionPass
from tests.fixtures.model_server import Call, Json, ModelServer
from tests.fixtures.runs import all_events, finished, gapless, of_type, tree_of, types_of
from tests.fixtures.services import (
    DATABASE_NUMBERS,
    PROJECT,
    WITHOUT_ROOTS,
    Service,
    running_service,
    write_models_config,
)
from tests.fixtures.waiting import wait_until
from tests.services.runs.reviewing import send_review
from tests.upgrades.write_database import ADA, BOB, DEPARTMENT, HEAD, TARGET

INDEX_OPTIONS = ("unique", "partialFilterExpression", "expireAfterSeconds")
ENDED = ("done", "alone", "failed")


@dataclass(frozen=True)
class Upgraded:
    """This version's service on that database; `events` are those that the earlier version showed, by root.

    `calls` are the model calls with which this version finished the run in progress.
    """

    service: Service
    calls: list[Call]
    roots: dict[str, str]
    events: dict[str, list[Json]]
    key: str


@cache
def written() -> dict[str, Any]:
    """The database that the earlier version wrote."""
    return json_util.loads(
        TARGET.read_text(), json_options=json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True)
    )


async def restore(database: Database) -> None:
    """Write the documents and the indexes; the deadline of the run in progress has not passed yet."""
    for name, content in written()["collections"].items():
        if content["documents"]:
            await database[name].insert_many(content["documents"])
        indexes = [
            IndexModel(
                list(index["key"].items()),
                name=index["name"],
                **{option: index[option] for option in INDEX_OPTIONS if option in index},
            )
            for index in content["indexes"]
            if index["name"] != "_id_"
        ]
        await database[name].create_indexes(indexes)
    executions = database["agent-executions"]  # the documents are not bound yet
    later = datetime.now(UTC) + timedelta(hours=1)
    await executions.update_many({"deadline": {"$exists": True}}, {"$set": {"deadline": later}})


@asynccontextmanager
async def upgraded_service(uri: str, folder: Path, server: ModelServer) -> AsyncGenerator[Service]:
    """This version's service on a database that the earlier version wrote, once it has finished the run in progress."""
    database = await connect(uri)
    await restore(database)
    await database.client.close()
    server.reset()
    config = write_models_config(folder / "models.yaml", server.url)
    async with running_service(uri, folder / "data", models_config=config, seed_on_start=False) as service:
        await finished(service, written()["header"]["roots"]["running"])
        yield service


@pytest.fixture(scope="module")
async def module_service(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[tuple[Service, list[Call]]]:
    """The service of this module, and the calls of the run that it continued."""
    uri = mongod_uri.replace("/?", f"/test_{next(DATABASE_NUMBERS)}?")
    async with upgraded_service(uri, tmp_path_factory.mktemp("upgraded"), shared_model_server) as service:
        yield service, list(shared_model_server.calls)


@pytest.fixture
def upgraded(module_service: tuple[Service, list[Call]]) -> Upgraded:
    """The service, and the state that the earlier version left."""
    header = written()["header"]
    events: dict[str, list[Json]] = written()["events"]
    service, calls = module_service
    return Upgraded(service, calls, header["roots"], events, header["apiKey"])


def calls_of(calls: list[Call], agent_id: str) -> list[str]:
    """The purposes of an agent's calls."""
    return [call.purpose for call in calls if call.is_from(agent_id)]


async def test_a_run_in_progress_continues_from_its_last_event(upgraded: Upgraded) -> None:
    before = upgraded.events["running"]
    events = await all_events(upgraded.service, upgraded.roots["running"])
    tree = await tree_of(upgraded.service, upgraded.roots["running"])

    assert tree["status"] == "completed"
    assert [child["status"] for child in tree["children"]] == ["completed", "completed"]
    assert events[: len(before)] == before
    assert gapless(events)
    assert events[len(before)]["type"] == "agent-retry"
    assert types_of(events)[-2:] == ["department-complete", "agent-complete"]
    assert calls_of(upgraded.calls, BOB) == ["work"]
    assert calls_of(upgraded.calls, ADA) == []


@pytest.mark.parametrize("name", ENDED)
async def test_ended_trees_replay_what_the_earlier_version_showed(upgraded: Upgraded, name: str) -> None:
    assert await all_events(upgraded.service, upgraded.roots[name]) == upgraded.events[name]


async def test_executions_are_listed_and_shown_with_their_earlier_results(upgraded: Upgraded) -> None:
    http = upgraded.service.http
    page = (await http.get("/api/v1/executions", params={"department": DEPARTMENT, "limit": 50})).json()
    done = (await http.get(f"/api/v1/executions/{upgraded.roots['done']}")).json()

    assert set(upgraded.roots.values()) <= {one["executionId"] for one in page["items"]}
    assert (done["status"], done["qualityScore"], done["qualityGate"]["passed"]) == ("completed", 90, True)
    assert done["total"]["tokenUsage"]["input"] > done["tokenUsage"]["input"] > 0


async def test_prompts_of_earlier_executions_are_found_by_their_words(upgraded: Upgraded) -> None:
    async def is_found() -> bool:
        page = (await upgraded.service.http.get("/api/v1/executions", params={"q": "write letters two"})).json()
        return upgraded.roots["done"] in {one["executionId"] for one in page["items"]}

    await wait_until(is_found, 20)


async def test_a_run_continues_a_conversation_of_the_earlier_version(
    upgraded: Upgraded, model_server: ModelServer
) -> None:
    model_server.on("work", "Dear reader, once more.")

    run = await upgraded.service.run_agent(
        ADA, prompt="Once more.", judge=False, previousExecutionId=upgraded.roots["alone"]
    )

    asked = model_server.calls[-1].messages
    assert (run["status"], run["conversationId"]) == ("completed", "thread-1")
    assert [message["role"] for message in asked] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert asked[-2]["content"] == "Dear reader, all is well."


async def test_a_failed_run_is_retried_from_its_checkpoint(upgraded: Upgraded, model_server: ModelServer) -> None:
    failed = upgraded.roots["failed"]
    answer = await upgraded.service.http.post(f"/api/v1/executions/{failed}/retry", headers={"Prefer": "wait=30"})

    run = answer.json()
    events = await all_events(upgraded.service, run["executionId"])
    assert (answer.status_code, run["status"], run["retryOf"]) == (200, "completed", failed)
    assert types_of(events)[:4] == types_of(upgraded.events["failed"])[:4]
    assert len(model_server.calls_for("work")) == 1


async def test_a_person_reviews_work_of_the_earlier_version_and_sends_it_back(
    upgraded: Upgraded, model_server: ModelServer
) -> None:
    root = upgraded.roots["done"]
    tree = await tree_of(upgraded.service, root)
    (ada,) = [child["executionId"] for child in tree["children"] if child["agent"] == ADA]
    model_server.on("work", "Dear reader, warmer.")

    approved = await send_review(upgraded.service, upgraded.roots["alone"], "approved")
    sent_back = await send_review(upgraded.service, ada, "revision-needed", "Warmer.")
    await finished(upgraded.service, root)

    events = await all_events(upgraded.service, root)
    assert (approved.status_code, sent_back.status_code) == (200, 202)
    assert events[: len(upgraded.events["done"])] == upgraded.events["done"]
    assert gapless(events)
    assert [event["status"] for event in of_type(events, "review-status")][-2:] == ["revision-needed", "approved"]
    assert calls_of(model_server.calls, HEAD) == ["review", "report"]
    revised = (await upgraded.service.http.get(f"/api/v1/executions/{ada}")).json()
    assert revised["output"]["text"] == "Dear reader, warmer."


async def test_keys_of_the_earlier_version_are_valid(upgraded: Upgraded) -> None:
    headers = {"Authorization": f"Bearer {upgraded.key}"}
    async with httpx.AsyncClient(base_url=upgraded.service.url, headers=headers, verify=WITHOUT_ROOTS) as http:
        me = (await http.get("/api/v1/me")).json()
        run = await http.post(f"/api/v1/agents/{ADA}/runs", json={"prompt": "Hello.", "project": PROJECT})

    assert (me["role"], me["name"]) == ("runner", "studio")
    assert run.status_code == 202


async def test_the_start_builds_every_index_beside_the_earlier_ones(upgraded: Upgraded) -> None:
    database = upgraded.service.services.database
    for document in DOCUMENTS:
        name = document.get_collection_name()
        found = {index["name"] async for index in await database[name].list_indexes()}
        earlier = {index["name"] for index in written()["collections"].get(name, {"indexes": []})["indexes"]}
        assert found >= earlier | {index.document["name"] for index in expected_indexes(document)}


@pytest.mark.slow
async def test_trees_of_the_earlier_version_are_archived_and_replay_as_before(
    database_uri: str, model_server: ModelServer, tmp_path: Path
) -> None:
    roots = written()["header"]["roots"]
    async with upgraded_service(database_uri, tmp_path, model_server) as service:
        before = {root: await all_events(service, root) for root in roots.values()}
        await service.services.control.outbox.settle()
        archives = service.services.executions.archives
        tomorrow = datetime.now(UTC) + timedelta(days=1)

        done = await RetentionPass(service.services.database, archives, share=1).run(tomorrow)

        executions = service.services.database[AgentExecution.get_collection_name()]
        archived = [raw["executionId"] async for raw in executions.find({"archivedAt": {"$exists": True}})]
        assert done is not None
        assert (done.trees, done.obstacles) == (len(roots), {})
        assert set(roots.values()) <= set(archived)
        assert {root: await all_events(service, root) for root in roots.values()} == before
        shown = (await service.http.get(f"/api/v1/executions/{roots['done']}")).json()
        assert (shown["status"], shown["qualityScore"]) == ("completed", 90)

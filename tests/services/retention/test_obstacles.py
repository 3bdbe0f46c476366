# pyright: reportPrivateUsage=false
"""Trees that are never archived, and trees that are no longer added to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.services.retention.archiver import TreeArchiver
from app.services.retention.due_trees import Obstacle, cutoff_before
from app.services.retention.passes import RetentionPass, archive_once
from app.services.retention.tree_export import ExportedTree
from tests.fixtures.http_api import assert_problem
from tests.fixtures.model_server import ModelServer
from tests.fixtures.runs import ADA, DEPARTMENT, stored_tree
from tests.fixtures.services import PROJECT, Service
from tests.services.retention.conftest import CUTOFF, LONG_AGO, Keeper, files_in

OBSTACLES: list[tuple[dict[str, Any], Obstacle]] = [
    ({"legalHold": True}, Obstacle.HELD),
    ({"status": "running"}, Obstacle.RUNNING),
    ({"lease": {"owner": "another", "until": LONG_AGO}}, Obstacle.RUNNING),
    ({"waitingFor": ["approval_1"]}, Obstacle.RUNNING),
    ({"reviewStatus": "revision-needed", "personReview": {"status": "revision-needed"}}, Obstacle.REVIEW),
    ({"uncounted": {}}, Obstacle.UNCOUNTED),
    ({"outbox": {"usage": {"1": {}}}}, Obstacle.UNCOUNTED),
    ({"events": [{"event": {"type": "a row of another program"}, "id": "1"}]}, Obstacle.DAMAGED),
]


@pytest.mark.parametrize(("fields", "obstacle"), OBSTACLES)
async def test_a_tree_with_an_obstacle_is_skipped(keeper: Keeper, fields: dict[str, Any], obstacle: Obstacle) -> None:
    before = files_in(keeper.archives.directory)
    root_id = await keeper.old_run()

    async with keeper.service.services.control.outbox._draining:  # which applies marks of its own accord
        await keeper.set(root_id, **fields)
        done = await keeper.run()
    document = await keeper.document(root_id)
    await keeper.executions.delete_one({"executionId": root_id})

    assert (done.trees, done.obstacles) == (0, {obstacle: 1})
    assert "archivedAt" not in document
    assert document["output"]["text"]
    assert files_in(keeper.archives.directory) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"reviewStatus": "revision-needed", "reviewNotes": "The head's last word."},
        {"reviewStatus": "approved", "personReview": {"status": "revision-needed", "superseded": True}},
        {"outbox": {"usage": {}}, "cancelRequested": True, "status": "cancelled", "lease": None},
    ],
)
async def test_a_tree_without_obstacles_is_archived(keeper: Keeper, fields: dict[str, Any]) -> None:
    root_id = await keeper.old_run(**fields)

    done = await keeper.run()

    assert (done.trees, done.obstacles) == (1, {})
    assert "archivedAt" in await keeper.document(root_id)


async def test_due_trees_are_found_by_the_index_without_sorting(keeper: Keeper) -> None:
    await keeper.old_run()
    selector = {"parentExecutionId": None, "archivedAt": None, "completedAt": {"$lt": CUTOFF}}

    plan = await keeper.executions.find(selector).hint("retention_1").explain()

    examined = plan["executionStats"]["totalDocsExamined"]
    assert "SORT" not in str(plan["queryPlanner"]["winningPlan"])
    assert examined == 1
    await keeper.run()


async def test_a_run_that_an_unfinished_run_retries_or_continues_is_passed_over(keeper: Keeper) -> None:
    retried, continued = await keeper.old_run(), await keeper.old_run()
    waiting = {"lease": {"owner": "another", "until": datetime.now(UTC) + timedelta(hours=1)}, "status": "pending"}
    links = [{"retryOf": retried}, {"previousExecutionId": continued}]
    await keeper.executions.insert_many([{"executionId": f"x{n}", **waiting, **links[n]} for n in range(2)])

    done = await keeper.run()
    await keeper.executions.delete_many({"executionId": {"$in": ["x0", "x1"]}})
    later = await keeper.run()

    assert (done.trees, done.obstacles) == (0, {Obstacle.CONTINUED: 2})
    assert (later.trees, later.obstacles) == (2, {})


async def test_a_tree_that_changes_while_it_is_exported_stays_as_it_is(
    service: Service, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    root_id = await keeper.old_run()
    before = files_in(keeper.archives.directory)

    verify = TreeArchiver._verify

    async def verify_and_review(self: TreeArchiver, exported: ExportedTree) -> None:
        await verify(self, exported)
        answer = await service.http.post(f"/api/v1/executions/{root_id}/review", json={"status": "approved"})
        assert answer.status_code == 200, answer.text

    monkeypatch.setattr(TreeArchiver, "_verify", verify_and_review)
    done = await keeper.run()

    assert (done.trees, done.obstacles) == (0, {Obstacle.RUNNING: 1})
    assert (await keeper.events(root_id)).json()["items"][-1]["type"] == "review-status"
    assert files_in(keeper.archives.directory) == before
    assert await keeper.database["retention-exports"].count_documents({}) == 0


async def test_nothing_continues_from_an_archived_run_or_is_added_to_it(
    service: Service, model_server: ModelServer, keeper: Keeper
) -> None:
    root_id = (await service.run_department(DEPARTMENT))["executionId"]
    child = (await stored_tree(service, root_id))[ADA]["executionId"]
    await keeper.age(root_id)
    await keeper.set(root_id, status="failed")
    base = f"/api/v1/executions/{root_id}"
    body = {"prompt": "More.", "project": PROJECT, "previousExecutionId": root_id}

    done = await keeper.run()
    answers = [
        await service.http.post(f"{base}/retry"),
        await service.http.post(f"{base}/review", json={"status": "approved"}),
        await service.http.post(f"/api/v1/executions/{child}/review", json={"status": "rejected"}),
        await service.http.post(f"{base}/review", json={"status": "revision-needed", "notes": "More."}),
        await service.http.post(f"/api/v1/agents/{ADA}/runs", json=body),
    ]
    leases = service.services.engine.leases

    assert done.trees == 1
    for answer in answers:
        assert_problem(answer, 409, "execution-archived")
    assert await leases.lock_ended(root_id) is None


async def test_a_legal_hold_keeps_a_run_from_archiving_and_deleting_until_it_is_released(
    service: Service, keeper: Keeper
) -> None:
    root_id = await keeper.old_run()
    path = f"/api/v1/executions/{root_id}"

    held = await service.http.patch(path, json={"legalHold": True})
    listed = (await service.http.get("/api/v1/executions", params={"legalHold": "true"})).json()
    first = await keeper.run()
    refused = await service.http.delete(path)
    unchanged = await service.http.patch(path, json={})
    released = await service.http.patch(path, json={"legalHold": None})
    second = await keeper.run()

    assert (held.status_code, held.json()["legalHold"], unchanged.json()["legalHold"]) == (200, True, True)
    assert [one["executionId"] for one in listed["items"]] == [root_id]
    assert (first.trees, first.obstacles) == (0, {Obstacle.HELD: 1})
    assert_problem(refused, 409, "execution-held")
    assert (released.json()["legalHold"], second.trees) == (False, 1)


async def test_only_the_root_of_a_run_can_be_held(service: Service, keeper: Keeper) -> None:
    root_id = (await service.run_department(DEPARTMENT))["executionId"]
    child = (await stored_tree(service, root_id))[ADA]["executionId"]

    part = await service.http.patch(f"/api/v1/executions/{child}", json={"legalHold": True})
    wrong = await service.http.patch(f"/api/v1/executions/{root_id}", json={"legalHold": "yes", "status": "failed"})

    assert_problem(part, 409, "execution-not-root")
    assert_problem(wrong, 422, "validation-error")


async def test_deleting_an_archived_run_removes_its_archive_unless_it_is_held(service: Service, keeper: Keeper) -> None:
    root_id = await keeper.old_run()
    path = f"/api/v1/executions/{root_id}"
    await keeper.run()
    archive = await keeper.archive_of(root_id)
    await service.http.patch(path, json={"legalHold": True})

    refused = await service.http.delete(path)
    kept = archive.data_path.exists()
    await service.http.patch(path, json={"legalHold": False})
    deleted = await service.http.delete(path)

    assert_problem(refused, 409, "execution-held")
    assert (kept, deleted.status_code) == (True, 204)
    assert not archive.data_path.exists()
    assert not archive.manifest_path.exists()
    assert await keeper.database["agent-execution-calls"].count_documents({"rootExecutionId": root_id}) == 0


async def test_a_run_is_old_by_the_clock_of_the_database(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    root_id = await keeper.old_run()
    now = (await keeper.database.command("hello"))["localTime"]
    await keeper.set(root_id, completedAt=now - timedelta(days=30, seconds=-60))
    at_day_30 = await cutoff_before(keeper.database, 30)

    young = await keeper.run(at_day_30)
    await keeper.set(root_id, completedAt=now - timedelta(days=30, seconds=60))
    old = await keeper.run(at_day_30)

    assert (young.trees, old.trees) == (0, 1)
    assert (await keeper.archive_of(root_id)).month == f"{now - timedelta(days=30, seconds=60):%Y-%m}"


async def test_one_process_at_a_time_archives_and_once_an_hour(keeper: Keeper) -> None:
    retention = RetentionPass(keeper.database, keeper.archives)
    root_id = await keeper.old_run()
    await keeper.database["process-leases"].update_one(
        {"_id": "retention"},
        {"$set": {"owner": "another", "until": datetime.now(UTC) + timedelta(minutes=1)}},
        upsert=True,
    )

    busy = await retention.run(CUTOFF)
    await keeper.free_lease()
    at_the_start = await archive_once(retention, 365, 0)
    within_the_hour = await archive_once(retention, 365, 3600)

    assert busy is None
    assert (at_the_start, within_the_hour) == (True, False)
    assert "archivedAt" in await keeper.document(root_id)

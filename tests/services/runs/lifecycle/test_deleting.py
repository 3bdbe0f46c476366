"""Deleting what has ended, and nothing that has not."""

import asyncio

from tests.fixtures.model_server import Call, ModelServer, Reply
from tests.fixtures.runs import ADA, DEPARTMENT, finished, stored, stored_tree
from tests.fixtures.services import PROJECT, Service

BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}


async def test_a_finished_run_is_deleted_with_all_that_belongs_to_it(
    service: Service, model_server: ModelServer
) -> None:
    done = await service.run_department(DEPARTMENT)
    root_id = done["executionId"]
    child = (await stored_tree(service, root_id))[ADA]["executionId"]

    refused = await service.http.delete(f"/api/v1/executions/{child}")
    deleted = await service.http.delete(f"/api/v1/executions/{root_id}")
    again = await service.http.delete(f"/api/v1/executions/{root_id}")

    assert (refused.status_code, refused.json()["code"]) == (409, "execution-not-root")
    assert (deleted.status_code, deleted.content, again.status_code) == (204, b"", 404)
    executions = service.services.database["agent-executions"]
    assert await executions.count_documents({"rootExecutionId": root_id}) == 0


async def test_a_run_that_is_deleted_as_soon_as_it_has_ended_stays_counted(service: Service) -> None:
    agent = await service.services.database["agents"].find_one({"agentId": ADA})
    assert agent is not None
    for _ in range(3):
        done = await service.run_agent(ADA, judge=False, tags=["deleted"])
        deleted = await service.http.delete(f"/api/v1/executions/{done['executionId']}")
        assert deleted.status_code == 204

    usage = (await service.http.get("/api/v1/analytics/usage", params={"tag": "deleted"})).json()
    counted = await service.services.database["agents"].find_one({"agentId": ADA})
    assert counted is not None
    assert (usage["executions"], usage["calls"]) == (3, 3)
    assert counted["totalExecutions"] == agent.get("totalExecutions", 0) + 3


async def test_a_running_execution_is_not_deleted(service: Service, model_server: ModelServer) -> None:
    released = asyncio.Event()

    async def work(_: Call) -> Reply:
        await released.wait()
        return "Done."

    model_server.on("work", work)
    execution_id = (await service.http.post(f"/api/v1/agents/{ADA}/runs", json=BODY)).json()["executionId"]

    answer = await service.http.delete(f"/api/v1/executions/{execution_id}")
    released.set()
    document = await finished(service, execution_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "execution-unfinished")
    assert document["status"] == (await stored(service, execution_id))["status"] == "completed"

"""Statistics of agents, departments and tools: each ended execution and each tool call once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from app.events.outbox import Outbox
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.services.usage.statistics import Statistics
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault
from tests.fixtures.services import Service, StartService
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

AGENT = "plot-specialist-001"
COUNTED = ("totalExecutions", "successRate", "averageExecutionTime", "lastExecutedAt")


async def agent_of(service: Service) -> dict[str, Any]:
    """The agent as it is stored."""
    found = await service.services.database["agents"].find_one({"agentId": AGENT})
    assert found is not None
    return found


async def until_counted(service: Service, total: int) -> dict[str, Any]:
    """The agent, once it has so many executions."""

    async def is_counted() -> bool:
        return (await agent_of(service)).get("totalExecutions") == total

    await wait_until(is_counted, seconds=15)
    return await agent_of(service)


def ended(agent: dict[str, Any], status: ExecutionStatus, milliseconds: float) -> dict[str, Any]:
    """An execution whose process died before anybody counted it."""
    identity = f"exec_{ObjectId()}"
    execution = AgentExecution(
        execution_id=identity,
        root_execution_id=identity,
        agent=agent["_id"],
        department=agent["department"],
        status=status,
        execution_time=milliseconds,
        uncounted={"toolCalls": [{"name": "beatSheetTiming", "count": 2}]},
    )
    return execution.as_stored()


async def test_runs_that_end_together_are_counted_exactly(
    start_service: StartService, models_config: Path, model_server: ModelServer
) -> None:
    def answer(call: Call) -> Reply:
        if "fail" in call.text:
            return fault(400, "no")
        return "Done." if call.tool_results else completion(None, ("beatSheetTiming", {"pages": 100}))

    model_server.on("work", answer)
    async with start_service(models_config=models_config) as service:
        prompts = ["fail" if place % 4 == 0 else "Write." for place in range(20)]
        await asyncio.gather(*(service.run_agent(AGENT, prompt=prompt, judge=False) for prompt in prompts))

        agent = await until_counted(service, 20)
        tool = await service.services.database["custom-tools"].find_one({"toolName": "beatSheetTiming"})
        executions = service.services.database["agent-executions"]
        ends = [one["completedAt"] async for one in executions.find({"agent": agent["_id"]})]
        assert (agent["successRate"], agent["lastExecutedAt"]) == (75.0, max(ends))
        assert agent["averageExecutionTime"] > 0
        assert tool is not None
        assert tool["totalExecutions"] == 15
        assert tool["lastUsedAt"] in ends
        assert (
            await service.services.database["agent-executions"].count_documents({"uncounted": {"$exists": True}}) == 0
        )


async def test_executions_that_a_dead_process_left_uncounted_are_counted_once(start_service: StartService) -> None:
    async with start_service() as service:
        agent = await agent_of(service)
        left = [ended(agent, ExecutionStatus.COMPLETED, 100) for _ in range(30)]
        left += [ended(agent, ExecutionStatus.FAILED, 400) for _ in range(10)]
        left += [ended(agent, ExecutionStatus.CANCELLED, 9000) for _ in range(2)]
        await service.services.database["agent-executions"].insert_many(left)
        database = service.services.database
        outboxes = [Outbox(database, [Statistics(database)]) for _ in range(3)]
        await asyncio.gather(*(outbox.settle() for outbox in outboxes))

        agent = await until_counted(service, 42)

        department = await service.services.database["departments"].find_one({"_id": agent["department"]})
        tool = await service.services.database["custom-tools"].find_one({"toolName": "beatSheetTiming"})
        assert {name: agent[name] for name in COUNTED[1:3]} == {"successRate": 75.0, "averageExecutionTime": 175.0}
        assert department is not None
        assert (department["totalExecutions"], department["averageExecutionTime"]) == (42, 175.0)
        assert tool is not None
        assert tool["totalExecutions"] == 84


async def test_a_damaged_document_does_not_keep_others_from_being_counted(start_service: StartService) -> None:
    async with start_service() as service:
        database = service.services.database
        agent = await agent_of(service)
        await database["agents"].update_one({"agentId": AGENT}, {"$set": {"totalExecutions": "many"}})
        await database["custom-tools"].update_one({"toolName": "textStatistics"}, {"$set": {"totalExecutions": "many"}})
        left = [ended(agent, ExecutionStatus.COMPLETED, 100) for _ in range(6)]
        left[0] |= {"uncounted": "gone"}
        left[1] |= {
            "uncounted": {"toolCalls": [3, {"name": ["a"], "count": 1}, {"name": "textStatistics", "count": 2}]}
        }
        left[2] |= {"agent": {"of": "unknown"}}
        left[3] |= {"department": [1]}
        left[4] |= {"executionTime": "long"}
        del left[5]["agent"]
        await database["agent-executions"].insert_many(left)
        await Outbox(database, [Statistics(database)]).settle()

        agent = await until_counted(service, 4)

        names = ("beatSheetTiming", "textStatistics")
        tools = {name: await database["custom-tools"].find_one({"toolName": name}) for name in names}
        assert agent["averageExecutionTime"] == 75.0
        assert {name: tool and tool["totalExecutions"] for name, tool in tools.items()} == {
            "beatSheetTiming": 8,
            "textStatistics": 2,
        }

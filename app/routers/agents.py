"""Agents: reading them, running one."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.dependencies import DEFAULT_PAGE, JSON_BODY, AnyCaller, Cursor, Limit, RunnerRole, ServicesDep
from app.routers.pages import PageRead
from app.routers.problems import problem_responses
from app.routers.runs import RUN_PROBLEMS, RUN_RESPONSES, Prefer, answer_run
from app.services.catalog.browsing import AgentFilter
from app.services.catalog.shapes import AgentRead
from app.services.paging import PageRequest
from app.services.runs.executions import ExecutionRead
from app.services.runs.requests import RunCreate

router = APIRouter(prefix="/agents", tags=["agents"], dependencies=[JSON_BODY])

AgentSort = Literal["agentId", "-agentId", "name", "-name", "createdAt", "-createdAt"]


@router.get("", operation_id="listAgents", responses=problem_responses(401, 422, 503))
async def list_agents(
    services: ServicesDep,
    _: AnyCaller,
    department: Annotated[str | None, Query(description="A department's slug.")] = None,
    is_active: Annotated[bool | None, Query(alias="isActive")] = None,
    is_department_head: Annotated[bool | None, Query(alias="isDepartmentHead")] = None,
    q: Annotated[
        str | None, Query(max_length=200, description="Part of an id, a name, a description or a specialisation.")
    ] = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[AgentSort, Query(description="A field; with a minus for the descending order.")] = "agentId",
) -> PageRead[AgentRead]:
    """List the agents."""
    wanted = AgentFilter(department, is_active, is_department_head, q)
    return PageRead[AgentRead].of(await services.catalog.list_agents(wanted, PageRequest(limit, sort, cursor)))


@router.get("/{agent_id}", operation_id="getAgent", responses=problem_responses(401, 404, 503))
async def get_agent(agent_id: str, services: ServicesDep, _: AnyCaller) -> AgentRead:
    """Read one agent."""
    return await services.catalog.get_agent(agent_id)


@router.post(
    "/{agent_id}/runs",
    operation_id="startAgentRun",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(*RUN_PROBLEMS)},
)
async def start_agent_run(
    agent_id: str,
    body: RunCreate,
    services: ServicesDep,
    caller: RunnerRole,
    response: Response,
    prefer: Prefer = None,
) -> ExecutionRead:
    """Run one agent: it calls its model and its tools until it has an answer."""
    accepted = await services.starter.start_agent_run(agent_id, body, caller)
    return await answer_run(accepted, services, caller, response, prefer)

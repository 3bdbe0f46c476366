"""Agents: read, write and run them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.dependencies import (
    DEFAULT_PAGE,
    AnyCaller,
    CatalogDep,
    Cursor,
    EditorDep,
    Limit,
    RunnerRole,
    ServiceAdmin,
    StarterDep,
)
from app.kit.paging import PageRequest
from app.routers.executions.runs import RUN_PROBLEMS, RUN_RESPONSES, IdempotencyKey, RunResponderDep
from app.routers.http.entries import CREATE_PROBLEMS, DELETE_PROBLEMS, UPDATE_PROBLEMS, IfMatch, answer_entry
from app.routers.http.omitted_fields import Omit, without
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.path_parameters import AgentIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.catalog.input_schemas import AgentCreate, AgentUpdate
from app.services.catalog.output_schemas import AgentRead
from app.services.catalog.queries import AgentFilter
from app.services.runs.accept.schemas import RunCreate
from app.services.runs.queries.execution_shapes import ExecutionRead

router = APIRouter(prefix="/agents", tags=["agents"], route_class=StrictRoute)

AgentSort = Literal["agentId", "-agentId", "name", "-name", "createdAt", "-createdAt"]


@router.get(
    "", operation_id="listAgents", response_description="The agents of the page.", responses=problem_responses()
)
async def list_agents(
    catalog: CatalogDep,
    _: AnyCaller,
    department: Annotated[str | None, Query(description="A department's slug.")] = None,
    is_active: Annotated[bool | None, Query(alias="isActive", description="Whether the agent is active.")] = None,
    is_department_head: Annotated[
        bool | None, Query(alias="isDepartmentHead", description="Whether the agent is the head of its department.")
    ] = None,
    q: Annotated[
        str | None,
        Query(max_length=200, description="Part of the id, name, description or specialization, ignoring case."),
    ] = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[AgentSort, sort_query(agentId="its id", name="its name", createdAt="its creation")] = "agentId",
) -> PageRead[AgentRead]:
    """List agents."""
    wanted = AgentFilter(department, is_active, is_department_head, q)
    return PageRead[AgentRead].of(await catalog.list_agents(wanted, PageRequest(limit, sort, cursor)))


@router.post(
    "",
    operation_id="createAgent",
    response_description="The agent has been created.",
    status_code=201,
    responses=problem_responses(*CREATE_PROBLEMS),
)
async def create_agent(body: AgentCreate, editor: EditorDep, caller: ServiceAdmin, response: Response) -> AgentRead:
    """Create an agent in a department.

    A department has at most one head: a second one is a conflict that names the first.
    """
    entry = await editor.create_agent(body, caller.actor)
    return answer_entry(entry, response, f"/api/v1/agents/{entry.shape.agent_id}")


@router.get(
    "/{agent_id}", operation_id="getAgent", response_description="The agent.", responses=problem_responses(404, 409)
)
async def get_agent(agent_id: AgentIdPath, catalog: CatalogDep, _: AnyCaller, response: Response) -> AgentRead:
    """Read one agent."""
    return answer_entry(await catalog.get_agent(agent_id), response)


@router.patch(
    "/{agent_id}",
    operation_id="updateAgent",
    response_description="The changed agent.",
    responses=problem_responses(*UPDATE_PROBLEMS),
)
async def update_agent(
    agent_id: AgentIdPath,
    body: AgentUpdate,
    editor: EditorDep,
    caller: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> AgentRead:
    """Change an agent by a merge patch.

    The next run uses the change; runs that have already started do not.
    """
    return answer_entry(await editor.update_agent(agent_id, body, if_match, caller.actor), response)


@router.delete(
    "/{agent_id}",
    operation_id="deleteAgent",
    response_description="The agent has been deleted.",
    status_code=204,
    responses=problem_responses(*DELETE_PROBLEMS),
)
async def delete_agent(
    agent_id: AgentIdPath, editor: EditorDep, caller: ServiceAdmin, if_match: IfMatch = None
) -> None:
    """Delete an agent. Its executions remain."""
    await editor.delete_agent(agent_id, if_match, caller.actor)


@router.post(
    "/{agent_id}/runs",
    operation_id="startAgentRun",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(*RUN_PROBLEMS)},
)
async def start_agent_run(
    agent_id: AgentIdPath,
    body: RunCreate,
    responder: RunResponderDep,
    starter: StarterDep,
    caller: RunnerRole,
    idempotency_key: IdempotencyKey = None,
    omit: Omit = None,
) -> ExecutionRead:
    """Run one agent, which calls its model and its tools until it has an answer."""
    accepted = await starter.start_agent_run(agent_id, body, caller, idempotency_key)
    return without(await responder.answer(accepted, caller), omit)

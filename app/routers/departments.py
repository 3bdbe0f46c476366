"""Departments: reading them, running one."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.dependencies import DEFAULT_PAGE, JSON_BODY, AnyCaller, Cursor, Limit, RunnerRole, ServicesDep
from app.routers.pages import PageRead
from app.routers.problems import problem_responses
from app.routers.runs import RUN_PROBLEMS, RUN_RESPONSES, Prefer, answer_run
from app.services.catalog.shapes import DepartmentRead
from app.services.paging import PageRequest
from app.services.runs.executions import ExecutionRead
from app.services.runs.requests import RunCreate

router = APIRouter(prefix="/departments", tags=["departments"], dependencies=[JSON_BODY])

DepartmentSort = Literal["priority", "-priority", "slug", "-slug", "name", "-name", "createdAt", "-createdAt"]


@router.get("", operation_id="listDepartments", responses=problem_responses(401, 422, 503))
async def list_departments(
    services: ServicesDep,
    _: AnyCaller,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[DepartmentSort, Query(description="A field; with a minus for the descending order.")] = "priority",
) -> PageRead[DepartmentRead]:
    """List the departments, those that run first at the top."""
    return PageRead[DepartmentRead].of(await services.catalog.list_departments(PageRequest(limit, sort, cursor)))


@router.get("/{slug}", operation_id="getDepartment", responses=problem_responses(401, 404, 503))
async def get_department(slug: str, services: ServicesDep, _: AnyCaller) -> DepartmentRead:
    """Read one department."""
    return await services.catalog.get_department(slug)


@router.post(
    "/{slug}/runs",
    operation_id="startDepartmentRun",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(*RUN_PROBLEMS)},
)
async def start_department_run(
    slug: str,
    body: RunCreate,
    services: ServicesDep,
    caller: RunnerRole,
    response: Response,
    prefer: Prefer = None,
) -> ExecutionRead:
    """Run a department: its head plans, its specialists work, their work is judged and reviewed, the head reports.

    The answer is the root execution; watch its events for the rest.
    """
    accepted = await services.starter.start_department_run(slug, body, caller)
    return await answer_run(accepted, services, caller, response, prefer)

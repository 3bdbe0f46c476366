"""Departments: reading and writing them, running one."""

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
from app.routers.http.pages import PageRead
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.catalog.input_schemas import DepartmentCreate, DepartmentUpdate
from app.services.catalog.output_schemas import DepartmentRead
from app.services.runs.accept.schemas import RunCreate
from app.services.runs.queries.executions import ExecutionRead

router = APIRouter(prefix="/departments", tags=["departments"], route_class=StrictRoute)

DepartmentSort = Literal["priority", "-priority", "slug", "-slug", "name", "-name", "createdAt", "-createdAt"]


@router.get("", operation_id="listDepartments", responses=problem_responses())
async def list_departments(
    catalog: CatalogDep,
    _: AnyCaller,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[DepartmentSort, Query(description="A field; with a minus for the descending order.")] = "priority",
) -> PageRead[DepartmentRead]:
    """List the departments, those that run first at the top."""
    return PageRead[DepartmentRead].of(await catalog.list_departments(PageRequest(limit, sort, cursor)))


@router.post("", operation_id="createDepartment", status_code=201, responses=problem_responses(*CREATE_PROBLEMS))
async def create_department(
    body: DepartmentCreate, editor: EditorDep, _: ServiceAdmin, response: Response
) -> DepartmentRead:
    """Create a department."""
    entry = await editor.create_department(body)
    return answer_entry(entry, response, f"/api/v1/departments/{entry.shape.slug}")


@router.get("/{slug}", operation_id="getDepartment", responses=problem_responses(404, 409))
async def get_department(slug: str, catalog: CatalogDep, _: AnyCaller, response: Response) -> DepartmentRead:
    """Read one department."""
    return answer_entry(await catalog.get_department(slug), response)


@router.patch("/{slug}", operation_id="updateDepartment", responses=problem_responses(*UPDATE_PROBLEMS))
async def update_department(
    slug: str,
    body: DepartmentUpdate,
    editor: EditorDep,
    _: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> DepartmentRead:
    """Change a department by a merge patch; the next run uses it."""
    return answer_entry(await editor.update_department(slug, body, if_match), response)


@router.delete(
    "/{slug}", operation_id="deleteDepartment", status_code=204, responses=problem_responses(*DELETE_PROBLEMS)
)
async def delete_department(slug: str, editor: EditorDep, _: ServiceAdmin, if_match: IfMatch = None) -> None:
    """Delete a department that has no agents any more."""
    await editor.delete_department(slug, if_match)


@router.post(
    "/{slug}/runs",
    operation_id="startDepartmentRun",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(*RUN_PROBLEMS)},
)
async def start_department_run(
    slug: str,
    body: RunCreate,
    responder: RunResponderDep,
    starter: StarterDep,
    caller: RunnerRole,
    idempotency_key: IdempotencyKey = None,
    omit: Omit = None,
) -> ExecutionRead:
    """Run a department: its head plans, its specialists work, their work is judged and reviewed, the head reports.

    The answer is the root execution; watch its events for the rest.
    """
    accepted = await starter.start_department_run(slug, body, caller, idempotency_key)
    return without(await responder.answer(accepted, caller), omit)

"""Departments: read, write and run them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response

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
from app.routers.http.path_parameters import DepartmentPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.catalog.input_schemas import DepartmentCreate, DepartmentUpdate
from app.services.catalog.output_schemas import DepartmentRead
from app.services.runs.accept.schemas import RunCreate
from app.services.runs.queries.execution_shapes import ExecutionRead

router = APIRouter(prefix="/departments", tags=["departments"], route_class=StrictRoute)

DepartmentSort = Literal["priority", "-priority", "slug", "-slug", "name", "-name", "createdAt", "-createdAt"]


@router.get(
    "",
    operation_id="listDepartments",
    response_description="The departments of the page.",
    responses=problem_responses(),
)
async def list_departments(
    catalog: CatalogDep,
    _: AnyCaller,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[
        DepartmentSort,
        sort_query(priority="the order in orchestrations", slug="its slug", name="its name", createdAt="its creation"),
    ] = "priority",
) -> PageRead[DepartmentRead]:
    """List departments, by default in order of priority."""
    return PageRead[DepartmentRead].of(await catalog.list_departments(PageRequest(limit, sort, cursor)))


@router.post(
    "",
    operation_id="createDepartment",
    response_description="The department has been created.",
    status_code=201,
    responses=problem_responses(*CREATE_PROBLEMS),
)
async def create_department(
    body: DepartmentCreate, editor: EditorDep, caller: ServiceAdmin, response: Response
) -> DepartmentRead:
    """Create a department."""
    entry = await editor.create_department(body, caller.actor)
    return answer_entry(entry, response, f"/api/v1/departments/{entry.shape.slug}")


@router.get(
    "/{slug}",
    operation_id="getDepartment",
    response_description="The department.",
    responses=problem_responses(404, 409),
)
async def get_department(slug: DepartmentPath, catalog: CatalogDep, _: AnyCaller, response: Response) -> DepartmentRead:
    """Read one department."""
    return answer_entry(await catalog.get_department(slug), response)


@router.patch(
    "/{slug}",
    operation_id="updateDepartment",
    response_description="The changed department.",
    responses=problem_responses(*UPDATE_PROBLEMS),
)
async def update_department(
    slug: DepartmentPath,
    body: DepartmentUpdate,
    editor: EditorDep,
    caller: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> DepartmentRead:
    """Change a department by a merge patch. The next run uses the change."""
    return answer_entry(await editor.update_department(slug, body, if_match, caller.actor), response)


@router.delete(
    "/{slug}",
    operation_id="deleteDepartment",
    response_description="The department has been deleted.",
    status_code=204,
    responses=problem_responses(*DELETE_PROBLEMS),
)
async def delete_department(
    slug: DepartmentPath, editor: EditorDep, caller: ServiceAdmin, if_match: IfMatch = None
) -> None:
    """Delete a department. It must no longer have agents, and no tool may name it."""
    await editor.delete_department(slug, if_match, caller.actor)


@router.post(
    "/{slug}/runs",
    operation_id="startDepartmentRun",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(*RUN_PROBLEMS)},
)
async def start_department_run(
    slug: DepartmentPath,
    body: RunCreate,
    responder: RunResponderDep,
    starter: StarterDep,
    caller: RunnerRole,
    idempotency_key: IdempotencyKey = None,
    omit: Omit = None,
) -> ExecutionRead:
    """Run a department: its head plans, specialists work, their work is judged and reviewed, and the head reports.

    The response is the root execution. Follow its events to watch the run.
    """
    accepted = await starter.start_department_run(slug, body, caller, idempotency_key)
    return without(await responder.answer(accepted, caller), omit)

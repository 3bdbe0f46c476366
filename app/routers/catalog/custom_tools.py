"""Custom tools: reading and writing them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.dependencies import DEFAULT_PAGE, AnyCaller, CatalogDep, Cursor, EditorDep, Limit, ServiceAdmin, ToolTesterDep
from app.kit.paging import PageRequest
from app.models.api_key import Role
from app.routers.http.entries import CREATE_PROBLEMS, DELETE_PROBLEMS, UPDATE_PROBLEMS, IfMatch, answer_entry
from app.routers.http.pages import PageRead
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.catalog.input_schemas import CustomToolCreate, CustomToolUpdate
from app.services.catalog.output_schemas import CustomToolRead
from app.services.catalog.tool_tester import ToolTestFailure, ToolTestInput, ToolTestOutcome

router = APIRouter(prefix="/custom-tools", tags=["custom tools"], route_class=StrictRoute)

TEST_PROBLEMS = (*BODY_PROBLEMS, 403, 404, 409)

CustomToolSort = Literal["toolName", "-toolName", "createdAt", "-createdAt"]


@router.get("", operation_id="listCustomTools", responses=problem_responses())
async def list_custom_tools(
    catalog: CatalogDep,
    caller: AnyCaller,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[CustomToolSort, Query(description="A field; with a minus for the descending order.")] = "toolName",
) -> PageRead[CustomToolRead]:
    """List the custom tools; their code is shown to admins only."""
    page = PageRequest(limit, sort, cursor)
    found = await catalog.list_custom_tools(page, with_code=caller.has(Role.ADMIN))
    return PageRead[CustomToolRead].of(found)


@router.post("", operation_id="createCustomTool", status_code=201, responses=problem_responses(*CREATE_PROBLEMS))
async def create_custom_tool(
    body: CustomToolCreate, editor: EditorDep, _: ServiceAdmin, response: Response
) -> CustomToolRead:
    """Create a custom tool. Its code must compile, its schema be one, and every example pass."""
    entry = await editor.create_custom_tool(body)
    return answer_entry(entry, response, f"/api/v1/custom-tools/{entry.shape.tool_name}")


@router.get("/{tool_name}", operation_id="getCustomTool", responses=problem_responses(404, 409))
async def get_custom_tool(tool_name: str, catalog: CatalogDep, caller: AnyCaller, response: Response) -> CustomToolRead:
    """Read one custom tool; its code is shown to admins only."""
    return answer_entry(await catalog.get_custom_tool(tool_name, with_code=caller.has(Role.ADMIN)), response)


@router.patch("/{tool_name}", operation_id="updateCustomTool", responses=problem_responses(*UPDATE_PROBLEMS))
async def update_custom_tool(
    tool_name: str,
    body: CustomToolUpdate,
    editor: EditorDep,
    _: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> CustomToolRead:
    """Change a custom tool by a merge patch; what changes is checked as when it was created."""
    return answer_entry(await editor.update_custom_tool(tool_name, body, if_match), response)


@router.delete(
    "/{tool_name}",
    operation_id="deleteCustomTool",
    status_code=204,
    responses=problem_responses(*DELETE_PROBLEMS),
)
async def delete_custom_tool(tool_name: str, editor: EditorDep, _: ServiceAdmin, if_match: IfMatch = None) -> None:
    """Delete a custom tool that no agent names."""
    await editor.delete_custom_tool(tool_name, if_match)


@router.post("/{tool_name}/test", operation_id="testCustomTool", responses=problem_responses(*TEST_PROBLEMS))
async def try_custom_tool(
    tool_name: str, body: ToolTestInput, tool_tester: ToolTesterDep, _: ServiceAdmin
) -> ToolTestOutcome | ToolTestFailure:
    """Call a tool once, as an agent would: its output or its error, what it logged, and what it took.

    A tool that fails is answered with 200 too, and `error` in place of `output`. The call is in no statistics.
    """
    return await tool_tester.run(tool_name, body)

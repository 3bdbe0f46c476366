"""Custom tools: read, write and test them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response

from app.dependencies import DEFAULT_PAGE, AnyCaller, CatalogDep, Cursor, EditorDep, Limit, ServiceAdmin, ToolTesterDep
from app.kit.paging import PageRequest
from app.models.api_key import Role
from app.routers.http.entries import CREATE_PROBLEMS, DELETE_PROBLEMS, UPDATE_PROBLEMS, IfMatch, answer_entry
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.path_parameters import ToolNamePath
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.catalog.input_schemas import CustomToolCreate, CustomToolUpdate
from app.services.catalog.output_schemas import CustomToolRead, CustomToolSummary
from app.services.catalog.tool_tester import ToolTestFailure, ToolTestInput, ToolTestOutcome

router = APIRouter(prefix="/custom-tools", tags=["custom tools"], route_class=StrictRoute)

TEST_PROBLEMS = (*BODY_PROBLEMS, 403, 404, 409)

CustomToolSort = Literal["toolName", "-toolName", "createdAt", "-createdAt"]


@router.get(
    "",
    operation_id="listCustomTools",
    response_description="The custom tools of the page.",
    responses=problem_responses(),
)
async def list_custom_tools(
    catalog: CatalogDep,
    _: AnyCaller,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[CustomToolSort, sort_query(toolName="its name", createdAt="its creation")] = "toolName",
) -> PageRead[CustomToolSummary]:
    """List custom tools without their code. Admins can read the code of each tool separately."""
    return PageRead[CustomToolSummary].of(await catalog.list_custom_tools(PageRequest(limit, sort, cursor)))


@router.post(
    "",
    operation_id="createCustomTool",
    response_description="The tool has been created.",
    status_code=201,
    responses=problem_responses(*CREATE_PROBLEMS),
)
async def create_custom_tool(
    body: CustomToolCreate, editor: EditorDep, caller: ServiceAdmin, response: Response
) -> CustomToolRead:
    """Create a custom tool.

    Its code must compile, its schema must be valid, and every example must succeed.
    """
    entry = await editor.create_custom_tool(body, caller.actor)
    return answer_entry(entry, response, f"/api/v1/custom-tools/{entry.shape.tool_name}")


@router.get(
    "/{tool_name}",
    operation_id="getCustomTool",
    response_description="The tool.",
    responses=problem_responses(404, 409),
)
async def get_custom_tool(
    tool_name: ToolNamePath, catalog: CatalogDep, caller: AnyCaller, response: Response
) -> CustomToolRead:
    """Read one custom tool. Only admins see its code."""
    return answer_entry(await catalog.get_custom_tool(tool_name, with_code=caller.has(Role.ADMIN)), response)


@router.patch(
    "/{tool_name}",
    operation_id="updateCustomTool",
    response_description="The changed tool.",
    responses=problem_responses(*UPDATE_PROBLEMS),
)
async def update_custom_tool(
    tool_name: ToolNamePath,
    body: CustomToolUpdate,
    editor: EditorDep,
    caller: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> CustomToolRead:
    """Change a custom tool by a merge patch.

    The changed fields are checked as on creation. A change of code or schema needs a higher `version`.
    """
    return answer_entry(await editor.update_custom_tool(tool_name, body, if_match, caller.actor), response)


@router.delete(
    "/{tool_name}",
    operation_id="deleteCustomTool",
    response_description="The tool has been deleted.",
    status_code=204,
    responses=problem_responses(*DELETE_PROBLEMS),
)
async def delete_custom_tool(
    tool_name: ToolNamePath, editor: EditorDep, caller: ServiceAdmin, if_match: IfMatch = None
) -> None:
    """Delete a custom tool. Agents must no longer name it."""
    await editor.delete_custom_tool(tool_name, if_match, caller.actor)


@router.post(
    "/{tool_name}/test",
    operation_id="testCustomTool",
    response_description="The result of the call, or its error.",
    responses=problem_responses(*TEST_PROBLEMS),
)
async def try_custom_tool(
    tool_name: ToolNamePath, body: ToolTestInput, tool_tester: ToolTesterDep, _: ServiceAdmin
) -> ToolTestOutcome | ToolTestFailure:
    """Call a tool once, as an agent would, and return its result, log, duration and memory.

    If the tool fails, the response is also 200, with `error` in place of `output`. Statistics do not count the call.
    """
    return await tool_tester.run(tool_name, body)

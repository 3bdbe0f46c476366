"""Custom tools: reading them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.dependencies import DEFAULT_PAGE, AnyCaller, Cursor, Limit, ServicesDep
from app.models.api_key import Role
from app.routers.pages import PageRead
from app.routers.problems import problem_responses
from app.services.catalog.shapes import CustomToolRead
from app.services.paging import PageRequest

router = APIRouter(prefix="/custom-tools", tags=["custom tools"])

CustomToolSort = Literal["toolName", "-toolName", "createdAt", "-createdAt"]


@router.get("", operation_id="listCustomTools", responses=problem_responses(401, 422, 503))
async def list_custom_tools(
    services: ServicesDep,
    caller: AnyCaller,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[CustomToolSort, Query(description="A field; with a minus for the descending order.")] = "toolName",
) -> PageRead[CustomToolRead]:
    """List the custom tools; their code is shown to admins only."""
    page = PageRequest(limit, sort, cursor)
    found = await services.catalog.list_custom_tools(page, with_code=caller.has(Role.ADMIN))
    return PageRead[CustomToolRead].of(found)


@router.get("/{tool_name}", operation_id="getCustomTool", responses=problem_responses(401, 404, 503))
async def get_custom_tool(tool_name: str, services: ServicesDep, caller: AnyCaller) -> CustomToolRead:
    """Read one custom tool; its code is shown to admins only."""
    return await services.catalog.get_custom_tool(tool_name, with_code=caller.has(Role.ADMIN))

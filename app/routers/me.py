"""The caller."""

from fastapi import APIRouter

from app.dependencies import AnyCaller
from app.kit.schemas import ApiModel
from app.models.api_key import Role
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute

router = APIRouter(prefix="/me", tags=["api keys"], route_class=StrictRoute)


class CallerRead(ApiModel):
    """The holder of the request's credentials."""

    name: str
    """The name of the API key, the subject of the token, or `anonymous`."""
    role: Role | None
    """The caller's role; `null` if requests without credentials may do nothing."""
    projects: list[str] | None
    """The ids of the CMS projects that the caller may see; `null` for all projects."""


@router.get("", operation_id="getCaller", response_description="The caller.", responses=problem_responses())
async def get_caller(caller: AnyCaller) -> CallerRead:
    """Read the name, the role and the projects of the caller."""
    projects = None if caller.projects is None else sorted(caller.projects)
    return CallerRead(name=caller.name, role=caller.role, projects=projects)

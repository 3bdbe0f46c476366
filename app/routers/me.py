"""The caller, and signing in with the link that the service prints."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from app.dependencies import AnyCaller, SignInCodeDep
from app.kit.schemas import ApiModel
from app.models.api_key import Role
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
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


class SignIn(BaseModel):
    """The code of a sign-in link."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"code": "Ff2n0yZ3Wk6sJb4x8tR1vQ9mLc7pHd5gKa0eUi2oTn4"}]},
    )

    code: Annotated[str, Field(min_length=1, max_length=200)]
    """The part of the link after `#sign-in=`."""


class SignInRead(ApiModel):
    """The key that a sign-in link is exchanged for."""

    api_key: str
    """The admin key of the installation."""


@router.post(
    "/sign-in",
    operation_id="signIn",
    response_description="The key.",
    responses=problem_responses(403, *BODY_PROBLEMS),
)
async def sign_in(body: SignIn, codes: SignInCodeDep, response: Response, _: AnyCaller) -> SignInRead:
    """Exchange the code of the link that `dynamic-agents serve` printed for the admin key. It works once."""
    response.headers["Cache-Control"] = "no-store"
    return SignInRead(api_key=codes.exchange(body.code))

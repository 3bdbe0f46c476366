"""API keys: making, listing and revoking them, by admins whose own key is for all projects."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.dependencies import ServiceAdmin, ServicesDep
from app.models.api_key import ApiKey, Role
from app.routers.problems import BODY_PROBLEMS, problem_responses
from app.routers.strict_input import StrictRoute
from app.services.access.api_keys import create_api_key, delete_api_key, list_api_keys
from app.services.catalog.shapes import Shape, Timestamp
from app.services.runs.requests import CmsId, Text
from app.settings import RateLimit

router = APIRouter(prefix="/api-keys", tags=["api keys"], route_class=StrictRoute)


class ApiKeyCreate(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        json_schema_extra={"examples": [{"name": "nightly runs", "role": "runner"}]},
    )

    name: Annotated[Text, Field(min_length=1, max_length=200, pattern=r"\S")]
    role: Role
    projects: Annotated[list[CmsId], Field(max_length=1000)] = []
    """CMS projects that the key is made for; empty means all."""
    run_rate_limit: Annotated[RateLimit, Field(max_length=100)] | None = None
    """How often the key may start runs, such as `60/minute`; without one the service's own limit holds."""


class ApiKeyRead(Shape):
    """A key, without its text."""

    id: str
    name: str
    role: Role
    projects: list[str]
    run_rate_limit: str | None
    created_at: Timestamp

    @classmethod
    def of(cls, key: ApiKey) -> "ApiKeyRead":
        """The shape of a document."""
        return cls.model_validate({**dict(key), "id": str(key.id)})


class ApiKeyCreated(ApiKeyRead):
    """A new key with its text, this once only."""

    key: str


class ApiKeyList(Shape):
    """All keys, always in one page."""

    items: list[ApiKeyRead]
    total: int
    next_cursor: str | None = None


@router.get("", operation_id="listApiKeys", responses=problem_responses(403))
async def list_keys(_: ServiceAdmin) -> ApiKeyList:
    """List the keys, without their texts."""
    keys = [ApiKeyRead.of(key) for key in await list_api_keys()]
    return ApiKeyList(items=keys, total=len(keys))


@router.post("", operation_id="createApiKey", status_code=201, responses=problem_responses(403, *BODY_PROBLEMS))
async def create_key(body: ApiKeyCreate, _: ServiceAdmin) -> ApiKeyCreated:
    """Make a key. Its text is in this answer and nowhere else: only a hash of it is stored."""
    document, key = await create_api_key(body.name, body.role, body.projects, body.run_rate_limit)
    return ApiKeyCreated.model_validate({**ApiKeyRead.of(document).model_dump(), "key": key})


@router.delete("/{key_id}", operation_id="deleteApiKey", status_code=204, responses=problem_responses(403, 404, 409))
async def delete_key(key_id: str, services: ServicesDep, _: ServiceAdmin) -> None:
    """Revoke a key: within five seconds nobody can use it any more. The last admin key cannot go."""
    keys = services.gatekeeper.keys
    await delete_api_key(services.database, key_id, has_bootstrap_key=keys.has_bootstrap_key)

"""API keys: create, list and revoke them, by admins whose own key is valid for all projects."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.dependencies import DEFAULT_PAGE, ApiKeysDep, Cursor, DatabaseDep, Limit, ServiceAdmin
from app.kit.paging import PageRequest
from app.kit.schemas import ApiModel, Entry, ObjectIdStr, Text, Timestamp
from app.kit.validation_words import worded
from app.models.api_key import ApiKey, Role
from app.routers.http.entries import DELETE_PROBLEMS, IfMatch, answer_entry
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.path_parameters import KeyIdPath
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.access.api_keys import (
    create_api_key,
    delete_api_key,
    get_api_key,
    key_etag,
    list_api_keys,
)
from app.services.catalog.loader import parsed
from app.setting_values import RateLimit

router = APIRouter(prefix="/api-keys", tags=["api keys"], route_class=StrictRoute)


ApiKeySort = Literal["createdAt", "-createdAt", "name", "-name"]


class ApiKeyCreate(BaseModel):
    """A new key."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"name": "nightly runs", "role": "runner"}]},
    )

    name: Annotated[Text, Field(min_length=1, max_length=200, pattern=worded(r"\S", "must not be blank"))]
    """A name for the key's holder, shown in reviews and lists."""
    role: Role
    """The role of requests that carry the key."""
    projects: Annotated[list[ObjectIdStr], Field(min_length=1, max_length=1000)] | None = None
    """The ids of the CMS projects that the key is valid for. Leave it out for all projects; an empty list is
    invalid."""
    run_rate_limit: Annotated[RateLimit, Field(max_length=100)] | None = None
    """How often the key may start runs, such as `60/minute`. Without it, `RUN_RATE_LIMIT` applies."""


class ApiKeyRead(ApiModel):
    """A key without its text."""

    id: str
    """The key's id, by which it is revoked."""
    name: str
    """The name of the key's holder."""
    role: Role
    """The role of requests that carry the key."""
    projects: list[str]
    """The ids of the CMS projects that the key is valid for. Empty if `allProjects` is true."""
    all_projects: bool
    """Whether the key is valid for every project."""
    run_rate_limit: str | None
    """How often the key may start runs; `null` if `RUN_RATE_LIMIT` applies."""
    created_at: Timestamp
    """When the key was created."""

    @classmethod
    def of(cls, key: ApiKey) -> "ApiKeyRead":
        """Convert a document."""
        return cls.model_validate({**dict(key), "id": str(key.id), "all_projects": key.allowed_projects is None})


class ApiKeyCreated(ApiKeyRead):
    """A new key with its text."""

    key: str
    """The key itself. Only this response shows it: the service stores a hash of it."""


@router.get(
    "", operation_id="listApiKeys", response_description="The keys of the page.", responses=problem_responses(403)
)
async def list_keys(
    database: DatabaseDep,
    _: ServiceAdmin,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[ApiKeySort, sort_query(createdAt="its creation", name="its name")] = "createdAt",
) -> PageRead[ApiKeyRead]:
    """List the keys without their texts. Keys whose stored document is invalid are left out."""
    found = await list_api_keys(database, PageRequest(limit, sort, cursor))
    keys = [ApiKeyRead.of(key) for raw in found.raws if (key := parsed(ApiKey, raw))]
    return PageRead[ApiKeyRead](items=keys, total=found.total, next_cursor=found.next_cursor)


@router.post(
    "",
    operation_id="createApiKey",
    response_description="The key, with its text.",
    status_code=201,
    responses=problem_responses(403, *BODY_PROBLEMS),
)
async def create_key(body: ApiKeyCreate, database: DatabaseDep, caller: ServiceAdmin) -> ApiKeyCreated:
    """Create a key. Only this response shows its text: the service stores a hash of it."""
    document, key = await create_api_key(
        database, caller.actor, body.name, body.role, body.projects, body.run_rate_limit
    )
    return ApiKeyCreated.model_validate({**ApiKeyRead.of(document).model_dump(), "key": key})


@router.get(
    "/{key_id}", operation_id="getApiKey", response_description="The key.", responses=problem_responses(403, 404, 409)
)
async def get_key(key_id: KeyIdPath, _: ServiceAdmin, response: Response) -> ApiKeyRead:
    """Read a key without its text."""
    key = await get_api_key(key_id)
    return answer_entry(Entry(ApiKeyRead.of(key), key_etag(key)), response)


@router.delete(
    "/{key_id}",
    operation_id="deleteApiKey",
    response_description="The key has been revoked.",
    status_code=204,
    responses=problem_responses(*DELETE_PROBLEMS),
)
async def delete_key(
    key_id: KeyIdPath, database: DatabaseDep, keys: ApiKeysDep, caller: ServiceAdmin, if_match: IfMatch = None
) -> None:
    """Revoke a key, which becomes invalid within five seconds. The last admin key cannot be revoked."""
    has_bootstrap_key = keys.has_bootstrap_key
    await delete_api_key(database, caller.actor, key_id, has_bootstrap_key=has_bootstrap_key, if_match=if_match)

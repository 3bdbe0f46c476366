"""API keys: shown once when they are created, stored as SHA-256, and cached briefly on lookup.

A key is 32 random bytes, so it does not need a slow hash.
"""

import hashlib
import secrets
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from async_lru import alru_cache
from beanie import PydanticObjectId
from beanie.odm.utils.dump import get_dict
from bson import ObjectId
from pydantic import ValidationError
from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.audit_marks import Actor, add_audit_marks, audit_mark
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.etags import check_tag, tag_of
from app.database.transactions import in_transaction
from app.errors import AppError, InvalidInput, NotFound
from app.kit.paging import PageRequest, RawPage, read_page
from app.models.api_key import ApiKey, Role
from app.models.audit import AuditAction
from app.models.stored_document import StoredDocumentInvalid

log = structlog.get_logger(__name__)

KEY_PREFIX = "da_"
SUBJECT_PREFIX = "token:"
"""The prefix of the `id` of callers with a token."""
CACHE_SECONDS = 3
MAX_CACHED = 1024
ROLE_ORDER = (Role.VIEWER, Role.RUNNER, Role.ADMIN)


SERVICE_ADMINS = {
    "role": Role.ADMIN.value,
    "$or": [{"allProjects": True}, {"allProjects": None, "projects": {"$in": [[], None]}}],
}
"""Selects the keys that administer the service, which must be valid for all projects."""


class ApiKeyNotFound(NotFound):
    """No API key has this id."""

    code = "api-key-not-found"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no API key {key_id[:100]!r}.")


class LastAdminKey(AppError):
    """The last key that can administer the service cannot be deleted."""

    code = "last-admin-key"
    status = HTTPStatus.CONFLICT

    def __init__(self) -> None:
        super().__init__("This is the last admin key, and ADMIN_API_KEY is not set. Create another admin key first.")


@dataclass(frozen=True)
class Caller:
    """The caller of a request; `projects` are ids in lower case, `None` means all projects, an empty set no project."""

    name: str
    role: Role | None
    projects: frozenset[str] | None = None
    id: str = ""
    """The key under which its limits are counted."""
    run_rate_limit: str | None = None

    @property
    def actor(self) -> Actor:
        """The caller as records name it: as an API key, a token or anonymous."""
        if self.id.startswith(SUBJECT_PREFIX):
            return Actor("token", self.name)
        return Actor("api-key" if self.id else "anonymous", self.name)

    def has(self, role: Role) -> bool:
        """Return whether the caller's role includes another."""
        return self.role is not None and ROLE_ORDER.index(self.role) >= ROLE_ORDER.index(role)

    def may_see(self, project: str | None) -> bool:
        """Return whether the caller may see what belongs to a project."""
        return self.projects is None or (project is not None and project.lower() in self.projects)


def hash_key(key: str) -> str:
    """Return the hash of a key, which is stored in its place."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


async def create_api_key(
    database: Database,
    actor: Actor,
    name: str,
    role: Role,
    projects: list[str] | None = None,
    run_rate_limit: str | None = None,
) -> tuple[ApiKey, str]:
    """Store a new key and return it with its text, which cannot be retrieved later.

    Raises:
        InvalidInput: `projects` is an empty list; a key for all projects has no list.
    """
    if projects == []:
        raise InvalidInput.of_field(
            "projects", "must name at least one project; leave it out for a key that is valid for all projects"
        )
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    document = ApiKey(
        id=PydanticObjectId(),
        name=name,
        role=role,
        key_hash=hash_key(key),
        projects=projects or [],
        all_projects=projects is None,
        run_rate_limit=run_rate_limit,
    )

    async def insert(session: AsyncClientSession) -> None:
        raw = get_dict(document, to_db=True, keep_nulls=False)
        await collection_of(database, ApiKey).insert_one(raw, session=session)
        detail = {"name": name, "role": role.value, "projects": len(projects) if projects else None}
        await add_audit_marks(
            database, [audit_mark(AuditAction.API_KEY_CREATE, actor, str(document.id), detail)], session
        )

    await in_transaction(database, insert)
    return document, key


async def list_api_keys(database: Database, page: PageRequest) -> RawPage:
    """Return a page of keys without their texts.

    Raises:
        InvalidInput: the cursor does not belong to this list.
    """
    return await read_page(collection_of(database, ApiKey), {}, page)


async def get_api_key(key_id: str) -> ApiKey:
    """Return a key without its text.

    Raises:
        ApiKeyNotFound: no key has this id.
        StoredDocumentInvalid: the stored document is not a valid key.
    """
    try:
        found = await ApiKey.get(ObjectId(key_id)) if ObjectId.is_valid(key_id) else None
    except ValidationError as error:
        raise StoredDocumentInvalid.of("API key", key_id, error) from None
    if found is None:
        raise ApiKeyNotFound(key_id)
    return found


def key_etag(key: ApiKey) -> str:
    """Return the entity tag of a key."""
    fields = {"name", "role", "key_hash", "projects", "all_projects", "run_rate_limit"}
    return tag_of({"id": str(key.id), **key.model_dump(mode="json", include=fields)})


def check_key_tag(raw: Raw, if_match: str | None) -> None:
    """Check that a write is meant for the stored key; an invalid document has no tag.

    Raises:
        EditedMeanwhile: the key is not the one that `if_match` names.
    """
    try:
        check_tag(key_etag(ApiKey.model_validate(raw)), if_match)
    except ValidationError:
        check_tag(None, if_match)


async def delete_api_key(
    database: Database, actor: Actor, key_id: str, *, has_bootstrap_key: bool, if_match: str | None = None
) -> None:
    """Revoke a key; within seconds, every process rejects it.

    The transaction touches every admin key, so that one of two concurrent deletions sees the other.

    Raises:
        ApiKeyNotFound: no key has this id.
        EditedMeanwhile: the key is no longer the one that `if_match` names.
        LastAdminKey: no other key could administer the service.
    """
    collection = collection_of(database, ApiKey)
    selector = {"_id": ObjectId(key_id)} if ObjectId.is_valid(key_id) else {"_id": None}

    async def delete(session: AsyncClientSession) -> None:
        found = await collection.find_one(selector, session=session)
        if found is None:
            raise ApiKeyNotFound(key_id)
        check_key_tag(found, if_match)
        is_service_admin = {"$and": [selector, SERVICE_ADMINS]}
        if not has_bootstrap_key and await collection.find_one(is_service_admin, session=session):
            admins = await collection.update_many(SERVICE_ADMINS, {"$inc": {"counted": 1}}, session=session)
            if admins.matched_count == 1:
                raise LastAdminKey
        await collection.delete_one(selector, session=session)
        detail = {"name": found.get("name"), "role": found.get("role")}
        await add_audit_marks(database, [audit_mark(AuditAction.API_KEY_REVOKE, actor, key_id, detail)], session)

    await in_transaction(database, delete)


class ApiKeyStore:
    """Finds the caller behind a key. Answers are cached for a few seconds, so a revoked key works for five at most."""

    def __init__(self, database: Database, *, admin_key: str | None) -> None:
        self._database = database
        self._admin_hash = hash_key(admin_key) if admin_key else None
        self.has_bootstrap_key = admin_key is not None
        self._lookup = alru_cache(maxsize=MAX_CACHED, ttl=CACHE_SECONDS)(self._find)

    def bootstrap_caller(self, key: str) -> Caller | None:
        """Return the admin caller if this is the bootstrap key, which can have any form, even that of a token."""
        if self._admin_hash and secrets.compare_digest(hash_key(key), self._admin_hash):
            return Caller("ADMIN_API_KEY", Role.ADMIN, id="bootstrap")
        return None

    async def find_caller(self, key: str) -> Caller | None:
        """Return the caller behind a stored key, or `None`."""
        return await self._lookup(hash_key(key))

    async def _find(self, hashed: str) -> Caller | None:
        raw = await collection_of(self._database, ApiKey).find_one({"keyHash": hashed})
        if raw is None:
            return None
        try:
            document = ApiKey.model_validate(raw)
        except ValidationError as error:
            log.warning("api-key-invalid", id=str(raw.get("_id")), problem=error.errors(include_input=False)[0]["msg"])
            return None
        allowed = document.allowed_projects
        projects = None if allowed is None else frozenset(project.lower() for project in allowed)
        return Caller(document.name, document.role, projects, str(document.id), document.run_rate_limit)

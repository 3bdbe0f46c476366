"""API keys: made once, shown once, stored as their SHA-256, and looked up with a short memory.

A key is 32 random bytes, so a plain hash is as good as a slow one.
"""

import hashlib
import secrets
from dataclasses import dataclass

from async_lru import alru_cache

from app.models.api_key import ApiKey, Role
from app.models.database import Database

KEY_PREFIX = "da_"
REMEMBER_SECONDS = 3
MAX_REMEMBERED = 1024
ROLE_ORDER = (Role.VIEWER, Role.RUNNER, Role.ADMIN)


@dataclass(frozen=True)
class Caller:
    """Who asks; `projects` are ids in lower case, empty means all projects."""

    name: str
    role: Role | None
    projects: frozenset[str] = frozenset()

    def has(self, role: Role) -> bool:
        """Whether the caller's role includes another."""
        return self.role is not None and ROLE_ORDER.index(self.role) >= ROLE_ORDER.index(role)

    def may_see(self, project: str | None) -> bool:
        """Whether the caller may see what belongs to a project."""
        return not self.projects or (project is not None and project.lower() in self.projects)


def hash_key(key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


async def create_api_key(name: str, role: Role, projects: list[str] | None = None) -> tuple[ApiKey, str]:
    """Store a new key and give it back with its text, which nobody can read again."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    document = ApiKey(name=name, role=role, key_hash=hash_key(key), projects=projects or [])
    await document.insert()
    return document, key


async def list_api_keys() -> list[ApiKey]:
    """All keys, the oldest first, without their texts."""
    return await ApiKey.find_all().sort("_id").to_list()


class KeyRing:
    """Who a key belongs to. An answer is remembered for a few seconds, so a revoked key is dead within five."""

    def __init__(self, database: Database, *, admin_key: str | None) -> None:
        self._database = database
        self._admin_hash = hash_key(admin_key) if admin_key else None
        self._lookup = alru_cache(maxsize=MAX_REMEMBERED, ttl=REMEMBER_SECONDS)(self._find)

    async def find_caller(self, key: str) -> Caller | None:
        """The caller behind a key, if there is one."""
        hashed = hash_key(key)
        if self._admin_hash and secrets.compare_digest(hashed, self._admin_hash):
            return Caller("ADMIN_API_KEY", Role.ADMIN)
        return await self._lookup(hashed)

    async def _find(self, hashed: str) -> Caller | None:
        raw = await self._database[ApiKey.get_collection_name()].find_one({"keyHash": hashed})
        if raw is None:
            return None
        document = ApiKey.model_validate(raw)
        return Caller(document.name, document.role, frozenset(project.lower() for project in document.projects))

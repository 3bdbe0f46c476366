"""The stores of the response cache: Redis, or a collection of MongoDB.

Each looks up an entry and claims the right to create it in one atomic step, timed by the server's clock. A claim that
its owner does not renew expires, so that a process that died does not keep others waiting.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bson import Binary
from pymongo import ReturnDocument, WriteConcern
from pymongo.read_concern import ReadConcern
from redis.asyncio import Redis

from app.database.collections import Collection

PREFIX = "dynamic-agents:answers:"
LOOK = """
local entry = redis.call('GET', KEYS[1])
if entry then return entry end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""
RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


class Claim(Enum):
    """The holder of the right to create an entry that does not exist."""

    OWN = "own"
    """The caller, until its claim ends."""
    TAKEN = "taken"
    """Another caller, which is already creating it."""
    UNAVAILABLE = "unavailable"
    """Unknown: the store does not answer."""


class AnswerStore(Protocol):
    """Stores entries by key, and claims on those that are being created. A claim is a random text of its owner."""

    async def find(self, key: str) -> bytes | None:
        """Return the entry, if it exists; claims nothing."""
        ...

    async def look(self, key: str, claim: str, claim_ms: int) -> bytes | Claim:
        """Return the entry, or claim it for so many milliseconds if it does not exist."""
        ...

    async def keep(self, key: str, entry: bytes, ttl_ms: int) -> None:
        """Store an entry and end the claim on it."""
        ...

    async def renew(self, key: str, claim: str, claim_ms: int) -> None:
        """Extend the own claim, if it still exists."""
        ...

    async def release(self, key: str, claim: str) -> None:
        """End the own claim, if it still exists."""
        ...


@dataclass(frozen=True)
class RedisStore:
    """Keeps entries in Redis. Databases that share a Redis have names of their own, derived from `secret`."""

    redis: Redis
    secret: bytes

    def _names(self, key: str) -> tuple[str, str]:
        """Return the names of an entry and of the claim on it; the braces keep both on one node of a cluster."""
        name = hashlib.sha256(self.secret + key.encode()).hexdigest()
        return f"{PREFIX}{{{name}}}:entry", f"{PREFIX}{{{name}}}:claim"

    async def find(self, key: str) -> bytes | None:
        """Return the entry, if it exists; claims nothing."""
        answer = await self.redis.get(self._names(key)[0])
        return answer if isinstance(answer, bytes) else None

    async def look(self, key: str, claim: str, claim_ms: int) -> bytes | Claim:
        """Return the entry, or claim it for so many milliseconds if it does not exist."""
        answer = await self.redis.eval(LOOK, 2, *self._names(key), claim, claim_ms)  # pyright: ignore[reportGeneralTypeIssues] - typed for both clients
        if isinstance(answer, bytes):
            return answer
        return Claim.OWN if answer == 1 else Claim.TAKEN

    async def keep(self, key: str, entry: bytes, ttl_ms: int) -> None:
        """Store an entry and end the claim on it."""
        entry_name, claim_name = self._names(key)
        async with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.set(entry_name, entry, px=ttl_ms)
            pipeline.delete(claim_name)
            await pipeline.execute()

    async def renew(self, key: str, claim: str, claim_ms: int) -> None:
        """Extend the own claim, if it still exists."""
        await self.redis.eval(RENEW, 1, self._names(key)[1], claim, claim_ms)  # pyright: ignore[reportGeneralTypeIssues] - typed for both clients

    async def release(self, key: str, claim: str) -> None:
        """End the own claim, if it still exists."""
        await self.redis.eval(RELEASE, 1, self._names(key)[1], claim)  # pyright: ignore[reportGeneralTypeIssues] - typed for both clients


class MongoStore:
    """Keeps entries in the documents of `CachedAnswer`.

    A lost write only costs a call, so one node confirms it, and entries are read as soon as that node has them.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection.with_options(write_concern=WriteConcern(w=1), read_concern=ReadConcern("local"))

    async def find(self, key: str) -> bytes | None:
        """Return the entry, if it exists; claims nothing."""
        is_fresh = {"$expr": {"$gt": ["$freshUntil", "$$NOW"]}}
        found = await self._collection.find_one({"_id": key, **is_fresh}, {"entry": True})
        entry = found.get("entry") if found else None
        return bytes(entry) if isinstance(entry, bytes) else None

    async def look(self, key: str, claim: str, claim_ms: int) -> bytes | Claim:
        """Return the entry, or claim it for so many milliseconds if it does not exist."""
        until = {"$add": ["$$NOW", claim_ms]}
        is_free = {"$and": [{"$lte": ["$freshUntil", "$$NOW"]}, {"$lte": ["$claimedUntil", "$$NOW"]}]}

        def if_free(value: object, name: str) -> object:
            return {"$cond": [is_free, value, f"${name}"]}

        claimed = {
            "entry": if_free("$$REMOVE", "entry"),
            "claim": if_free(claim, "claim"),
            "claimedUntil": if_free(until, "claimedUntil"),
            "expiresAt": if_free(until, "expiresAt"),
        }
        found = await self._collection.find_one_and_update(
            {"_id": key},
            [{"$set": claimed}],
            projection={"entry": True, "claim": True},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        entry = found.get("entry") if found else None
        if isinstance(entry, bytes):
            return bytes(entry)
        return Claim.OWN if found and found.get("claim") == claim else Claim.TAKEN

    async def keep(self, key: str, entry: bytes, ttl_ms: int) -> None:
        """Store an entry and end the claim on it."""
        until = {"$add": ["$$NOW", ttl_ms]}
        stored = {"entry": {"$literal": Binary(entry)}, "freshUntil": until, "expiresAt": until}
        update = [{"$set": stored}, {"$unset": ["claim", "claimedUntil"]}]
        await self._collection.update_one({"_id": key}, update, upsert=True)

    async def renew(self, key: str, claim: str, claim_ms: int) -> None:
        """Extend the own claim, if it still exists."""
        until = {"$add": ["$$NOW", claim_ms]}
        await self._collection.update_one(
            {"_id": key, "claim": claim}, [{"$set": {"claimedUntil": until, "expiresAt": until}}]
        )

    async def release(self, key: str, claim: str) -> None:
        """End the own claim, if it still exists."""
        await self._collection.delete_one({"_id": key, "claim": claim})

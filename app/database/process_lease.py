"""Leases that let one process at a time do a job, timed by the database's clock: the `process-leases` collection."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from app.database.connection import Database, Raw

COLLECTION = "process-leases"
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ProcessLease:
    """The lease on a job for one owner; it expires after `seconds` without a renewal."""

    database: Database
    job: str
    owner: str
    seconds: float = 60.0

    async def take(self, *, pause_seconds: float = 0.0) -> bool:
        """Take the lease, or renew it; return whether it is this owner's now.

        It is not taken while another owner has it, or within `pause_seconds` after it was last released.

        Raises:
            PyMongoError: the database is unavailable.
        """
        pause: Raw = {
            "$dateSubtract": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(pause_seconds * 1000)}
        }
        is_free = {"$and": [{"$lte": ["$until", "$$NOW"]}, {"$lte": [{"$ifNull": ["$releasedAt", pause]}, pause]}]}
        selector = {"_id": self.job, "$expr": {"$or": [{"$eq": ["$owner", self.owner]}, is_free]}}
        until = {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(self.seconds * 1000)}}
        taking = [{"$set": {"owner": self.owner, "until": until}}]
        leases = self.database[COLLECTION]
        if (await leases.update_one(selector, taking)).matched_count:
            return True
        with contextlib.suppress(DuplicateKeyError):
            await leases.insert_one({"_id": self.job, "owner": "", "until": LONG_AGO})
        return (await leases.update_one(selector, taking)).matched_count > 0

    async def release(self) -> None:
        """Release the lease if this owner still holds it."""
        released = {"owner": "", "until": "$$NOW", "releasedAt": "$$NOW"}
        await self.database[COLLECTION].update_one({"_id": self.job, "owner": self.owner}, [{"$set": released}])

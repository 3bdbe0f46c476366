"""A model answer of the response cache, or the claim on one: the service's own `agent-response-cache` collection."""

from datetime import datetime

from beanie import Document
from pydantic import ConfigDict
from pymongo import ASCENDING, IndexModel

from app.models.base import stored_name


class CachedAnswer(Document):
    """The answer to one request, under the hash of everything that shapes it.

    While a process asks the model, the document has its `claim` instead of an `entry`. MongoDB removes documents after
    `expires_at`; until then, `fresh_until` and `claimed_until` decide.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    id: str = ""  # pyright: ignore[reportIncompatibleVariableOverride] - the hash of the request
    entry: bytes | None = None
    fresh_until: datetime | None = None
    claim: str | None = None
    claimed_until: datetime | None = None
    expires_at: datetime

    class Settings:
        """Collection and indexes."""

        name = "agent-response-cache"
        indexes = (IndexModel([("expiresAt", ASCENDING)], name="expiresAt_1", expireAfterSeconds=0),)

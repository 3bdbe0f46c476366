"""A ticket for one execution's event stream: the `stream-tickets` collection, from which MongoDB removes old ones."""

from datetime import datetime

from beanie import Document
from pydantic import ConfigDict
from pymongo import ASCENDING, IndexModel

from app.models.base import stored_name


class StreamTicket(Document):
    """A ticket's execution and credential. Neither the ticket nor the credential can be read from it.

    `ticket_hash` is one hash of the ticket; another hash encrypts the credential.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    ticket_hash: str
    execution_id: str
    sealed: bytes
    expires_at: datetime

    class Settings:
        """Collection and indexes."""

        name = "stream-tickets"
        indexes = (
            IndexModel([("ticketHash", ASCENDING)], name="ticketHash_1", unique=True),
            IndexModel([("expiresAt", ASCENDING)], name="expiresAt_1", expireAfterSeconds=0),
        )

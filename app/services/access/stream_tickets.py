"""Tickets for event streams, for browsers' `EventSource`, which can send neither a key nor any other header.

A ticket stands in an address, and addresses are logged by proxies and kept by browsers. So it opens one stream, for a
minute, and is worth no more than the credential that it was made with: what it says of its caller is looked up anew.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.database.connection import Database
from app.kit.times import utc_now
from app.models.stream_ticket import StreamTicket

TICKET_PREFIX = "st_"
TICKET_SECONDS = 60
MAX_TICKET_CHARACTERS = 100
ANONYMOUS = ""
"""The credential of a caller without one."""
NONCE = bytes(12)
"""Each key encrypts once."""


@dataclass(frozen=True)
class StreamTickets:
    """Makes tickets and looks them up, for all processes on this database."""

    database: Database

    async def create(self, execution_id: str, credential: str) -> tuple[str, datetime]:
        """A ticket for the stream of an execution, in the name of the caller with this credential; and its end."""
        ticket = TICKET_PREFIX + secrets.token_urlsafe(32)
        expires_at = utc_now() + timedelta(seconds=TICKET_SECONDS)
        sealed = cipher_of(ticket).encrypt(NONCE, credential.encode(), execution_id.encode())
        await StreamTicket(
            ticket_hash=hash_of(ticket), execution_id=execution_id, sealed=sealed, expires_at=expires_at
        ).insert()
        return ticket, expires_at

    async def find_credential(self, ticket: str, execution_id: str) -> str | None:
        """The credential behind a ticket for this execution, `None` when there is no such ticket any more."""
        selector = {"ticketHash": hash_of(ticket), "executionId": execution_id, "expiresAt": {"$gt": utc_now()}}
        found = await self.database[StreamTicket.get_collection_name()].find_one(selector)
        if found is None:
            return None
        try:
            return cipher_of(ticket).decrypt(NONCE, bytes(found["sealed"]), execution_id.encode()).decode()
        except (InvalidTag, UnicodeDecodeError, KeyError, TypeError):
            return None


def hash_of(ticket: str) -> str:
    """What a ticket is found by: from the one hash the other cannot be computed."""
    return hashlib.sha256(b"hash of " + ticket.encode("utf-8", "replace")).hexdigest()


def cipher_of(ticket: str) -> AESGCM:
    """What the credential is encrypted with."""
    return AESGCM(hashlib.sha256(b"key of " + ticket.encode("utf-8", "replace")).digest())

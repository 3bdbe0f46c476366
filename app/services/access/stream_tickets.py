"""Tickets for event streams, for the `EventSource` of browsers, which cannot send headers.

A ticket is part of a URL, and URLs end up in the logs of proxies and the history of browsers. It therefore opens one
stream, for a minute, and only while the credential that created it is valid, which is checked again.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.database.collections import collection_of
from app.database.connection import Database
from app.kit.times import utc_now
from app.models.stream_ticket import StreamTicket

TICKET_PREFIX = "st_"
TICKET_SECONDS = 60
MAX_TICKET_CHARACTERS = 100
ANONYMOUS = ""
"""The credential of an anonymous caller."""
NONCE = bytes(12)
"""A constant nonce is safe because each key encrypts once."""


@dataclass(frozen=True)
class StreamTickets:
    """Creates and looks up tickets, which every process on this database accepts."""

    database: Database

    async def create(self, execution_id: str, credential: str) -> tuple[str, datetime]:
        """Create a ticket for the stream of an execution and the holder of a credential; return it with its expiry."""
        ticket = TICKET_PREFIX + secrets.token_urlsafe(32)
        expires_at = utc_now() + timedelta(seconds=TICKET_SECONDS)
        sealed = cipher_of(ticket).encrypt(NONCE, credential.encode(), execution_id.encode())
        await StreamTicket(
            ticket_hash=hash_of(ticket), execution_id=execution_id, sealed=sealed, expires_at=expires_at
        ).insert()
        return ticket, expires_at

    async def find_credential(self, ticket: str, execution_id: str) -> str | None:
        """Return the credential behind a ticket for this execution, `None` if the ticket is unknown or has expired."""
        selector = {"ticketHash": hash_of(ticket), "executionId": execution_id, "expiresAt": {"$gt": utc_now()}}
        found = await collection_of(self.database, StreamTicket).find_one(selector)
        if found is None:
            return None
        try:
            return cipher_of(ticket).decrypt(NONCE, bytes(found["sealed"]), execution_id.encode()).decode()
        except (InvalidTag, UnicodeDecodeError, KeyError, TypeError):
            return None


def hash_of(ticket: str) -> str:
    """Return the hash that identifies a ticket; the encryption key cannot be computed from it."""
    return hashlib.sha256(b"hash of " + ticket.encode("utf-8", "replace")).hexdigest()


def cipher_of(ticket: str) -> AESGCM:
    """Return the key that encrypts the credential of a ticket."""
    return AESGCM(hashlib.sha256(b"key of " + ticket.encode("utf-8", "replace")).digest())

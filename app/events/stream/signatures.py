"""Signatures of messages between processes: write access to Redis is not enough to forge one."""

import hashlib
import hmac
from dataclasses import dataclass

SIGNATURE_BYTES = 32


@dataclass(frozen=True)
class MessageSigner:
    """Signs and verifies messages with a key that only the processes of one database share."""

    key: bytes

    def sign(self, channel: str, body: bytes) -> bytes:
        """Return the message for a channel: its signature, then its body."""
        return self._signature(channel, body) + body

    def open(self, channel: str, message: bytes) -> bytes | None:
        """Return the body of a channel's message, or `None` if no process of this database signed it."""
        signature, body = message[:SIGNATURE_BYTES], message[SIGNATURE_BYTES:]
        return body if hmac.compare_digest(signature, self._signature(channel, body)) else None

    def _signature(self, channel: str, body: bytes) -> bytes:
        return hmac.digest(self.key, channel.encode() + b"\0" + body, hashlib.sha256)

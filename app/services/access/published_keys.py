"""The keys that an identity provider publishes (a JSON Web Key Set), refreshed often enough to notice revocations."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.errors import AppError

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
RSA_BITS = range(2048, 8193)
FETCH_SECONDS = 5.0
MAX_SET_BYTES = 1024 * 1024
MAX_KEYS = 100
REFRESH_AFTER_SECONDS = 120.0
"""The age at which a key set is refreshed in the background."""
MAX_AGE_SECONDS = 270.0
"""The age at which a key set is no longer used. With the time of a refresh, a revoked key works for five minutes."""
RETRY_AFTER_SECONDS = 30.0
"""The minimum time between refreshes for unknown key ids, and after a failed refresh."""

clock = time.monotonic
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

log = structlog.get_logger(__name__)


class TokenKeysUnavailable(AppError):
    """The keys that verify tokens are unavailable."""

    code = "token-keys-unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 5

    def __init__(self) -> None:
        super().__init__("The token cannot be verified: the keys at JWT_JWKS_URL are unavailable. Try again later.")


@dataclass(frozen=True)
class PublishedKey:
    """A public key and the algorithms that it may verify."""

    key_id: str | None
    key: PublicKey
    algorithms: tuple[str, ...]


@dataclass
class PublishedKeys:
    """The key set at a URL. Tokens with a known key never wait for a refresh."""

    url: str
    _keys: tuple[PublishedKey, ...] = field(default=(), init=False)
    _read_at: float | None = field(default=None, init=False)
    _tried_at: float | None = field(default=None, init=False)
    _read: asyncio.Task[None] | None = field(default=None, init=False)

    async def find(self, key_id: str | None, algorithm: str) -> list[PublishedKey]:
        """Return the keys that may verify a token with this header.

        Raises:
            TokenKeysUnavailable: the last refresh is so old that the keys may have been revoked.
        """
        found = self._matching(key_id, algorithm)
        age = self._age()
        if found and age < MAX_AGE_SECONDS:
            if age > REFRESH_AFTER_SECONDS:
                self._start_read()
            return found
        if read := self._start_read():
            await asyncio.shield(read)
        if self._age() >= MAX_AGE_SECONDS:
            raise TokenKeysUnavailable
        return self._matching(key_id, algorithm)

    async def close(self) -> None:
        """Cancel a refresh in progress."""
        if self._read:
            self._read.cancel()
            await asyncio.gather(self._read, return_exceptions=True)

    def _matching(self, key_id: str | None, algorithm: str) -> list[PublishedKey]:
        return [one for one in self._keys if algorithm in one.algorithms and key_id in (one.key_id, None)]

    def _age(self) -> float:
        return float("inf") if self._read_at is None else clock() - self._read_at

    def _start_read(self) -> asyncio.Task[None] | None:
        """Return the refresh in progress, else a new one; `None` if the last one was too recent."""
        if self._read is None:
            now = clock()
            if self._tried_at is not None and now - self._tried_at < RETRY_AFTER_SECONDS:
                return None
            self._tried_at = now
            self._read = asyncio.create_task(self._read_set(now), name="published keys")
            self._read.add_done_callback(self._end_read)
        return self._read

    def _end_read(self, _: asyncio.Task[None]) -> None:
        self._read = None

    async def _read_set(self, now: float) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = keys_in(json.loads(await fetch(self.url)))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as error:
            log.warning("jwks-read-failed", error=type(error).__name__)
            return
        if not keys:
            log.warning("jwks-without-usable-key")
        self._keys, self._read_at = keys, now


async def fetch(url: str) -> bytes:
    """Download the document at a URL without following redirects, up to a maximum size.

    Raises:
        httpx.HTTPError: there is no response, or its status is not a success.
        ValueError: the document is too large.
    """
    async with httpx.AsyncClient(timeout=FETCH_SECONDS) as http, http.stream("GET", url) as answer:
        answer.raise_for_status()
        if answer.status_code != HTTPStatus.OK:
            raise ValueError("the response is not the document itself")
        content = bytearray()
        async for piece in answer.aiter_bytes(64 * 1024):
            content += piece
            if len(content) > MAX_SET_BYTES:
                raise ValueError("too large")
        return bytes(content)


def keys_in(document: Any) -> tuple[PublishedKey, ...]:  # noqa: ANN401 - any JSON value
    """Return the keys of a key set that can verify signatures; others are skipped, as the standard requires.

    Raises:
        ValueError: it is not a key set.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set")
    found = [published_key(entry) for entry in entries[:MAX_KEYS] if isinstance(entry, dict)]
    return tuple(key for key in found if key is not None)


def published_key(entry: dict[str, Any]) -> PublishedKey | None:
    """Return a key of a key set, `None` if it cannot verify signatures with one of the accepted algorithms."""
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    try:
        key = jwt.PyJWK({name: value for name, value in entry.items() if name != "alg"}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    algorithms = algorithms_of(key)
    if "alg" in entry:
        algorithms = tuple(name for name in algorithms if name == entry["alg"])
    key_id = entry.get("kid")
    return PublishedKey(key_id if isinstance(key_id, str) else None, key, algorithms) if algorithms else None


def algorithms_of(key: object) -> tuple[str, ...]:
    """Return the algorithms that a key may verify: none for secrets, private keys and weak keys."""
    match key:
        case RSAPublicKey():
            return RSA_ALGORITHMS if key.key_size in RSA_BITS else ()
        case EllipticCurvePublicKey():
            name = CURVE_ALGORITHMS.get(key.curve.name)
            return (name,) if name else ()
        case Ed25519PublicKey() | Ed448PublicKey():
            return ("EdDSA",)
        case _:
            return ()

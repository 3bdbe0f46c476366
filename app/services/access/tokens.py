"""JSON Web Tokens of somebody else's making: by a shared secret, or by the keys that an identity provider publishes."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import structlog

from app.models.api_key import Role
from app.models.json_values import clean_text
from app.services.access.api_keys import Caller

SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
PUBLISHED_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 10
FETCH_SECONDS = 5
REFETCH_AFTER_SECONDS = 30.0
"""How long an unknown key id is taken as unknown before the published keys are read again."""

log = structlog.get_logger(__name__)


def looks_like_token(key: str) -> bool:
    """Whether a credential has a token's three parts; our own API keys have no dot."""
    return key.count(".") == 2


@dataclass
class TokenVerifier:
    """Checks signatures, times and the `role` claim; a secret is never tried as a public key, nor the reverse."""

    secret: str | None = None
    jwks_url: str | None = None
    _keys: dict[str, jwt.PyJWK] = field(default_factory=dict, init=False)
    _fetched_at: float | None = field(default=None, init=False)
    _fetching: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def find_caller(self, token: str) -> Caller | None:
        """The caller that a token speaks for, `None` when it is not valid here."""
        try:
            header = jwt.get_unverified_header(token)
            claims = await self._claims(token, header)
        except jwt.PyJWTError:
            return None
        return caller_of(claims) if claims else None

    async def _claims(self, token: str, header: dict[str, Any]) -> dict[str, Any] | None:
        options: Any = {"verify_aud": False}
        if self.secret is not None and header.get("alg") in SECRET_ALGORITHMS:
            return jwt.decode(token, self.secret, list(SECRET_ALGORITHMS), options, leeway=LEEWAY_SECONDS)
        if self.jwks_url is not None and header.get("alg") in PUBLISHED_ALGORITHMS:
            key = await self._published_key(str(header.get("kid")))
            if key is not None:
                return jwt.decode(token, key, list(PUBLISHED_ALGORITHMS), options, leeway=LEEWAY_SECONDS)
        return None

    async def _published_key(self, key_id: str) -> jwt.PyJWK | None:
        """A published key; the set is read once, and again now and then for a key id that it lacks."""
        async with self._fetching:
            now = asyncio.get_running_loop().time()
            stale = self._fetched_at is None or now - self._fetched_at > REFETCH_AFTER_SECONDS
            if key_id not in self._keys and stale:
                self._fetched_at = now
                await self._fetch()
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=FETCH_SECONDS) as http:
                answer = await http.get(str(self.jwks_url))
            answer.raise_for_status()
            published = jwt.PyJWKSet.from_dict(answer.json())
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            log.warning("jwks-not-read", error=type(error).__name__)
            return
        self._keys = {str(key.key_id): key for key in published.keys}


def caller_of(claims: dict[str, Any]) -> Caller | None:
    """The caller in a token's claims: `role`, `sub`, and `projects` where it is made for certain ones."""
    role, projects = claims.get("role"), claims.get("projects", [])
    if role not in list(Role) or not isinstance(projects, list):
        return None
    subject = clean_text(str(claims.get("sub", "token")))
    return Caller(subject, Role(role), frozenset(str(one).lower() for one in projects), f"token:{subject}")

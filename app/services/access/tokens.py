"""JSON Web Tokens of other issuers, signed with a shared secret or with a published key of an identity provider."""

from dataclasses import dataclass
from typing import Any

import jwt

from app.kit.json_values import clean_text
from app.models.api_key import Role
from app.services.access.api_keys import SUBJECT_PREFIX, Caller
from app.services.access.published_keys import RSA_ALGORITHMS, PublishedKeys

SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
PUBLISHED_ALGORITHMS = (*RSA_ALGORITHMS, "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 10
"""The prefix of the ids of callers with tokens."""
MAX_CANDIDATES = 8
"""The maximum number of keys that are tried for a token: those of its key id, or all if it has none."""
INVALID = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""The errors of invalid tokens; PyJWT passes on Python's errors about huge numbers and deep nesting."""


def looks_like_token(key: str) -> bool:
    """Return whether a credential has the three parts of a token; API keys contain no dot."""
    return key.count(".") == 2


@dataclass(frozen=True)
class TokenVerifier:
    """Checks signatures, times, audience, issuer and the `role` claim.

    A secret is never used as a public key, nor the reverse. Headers that contain a key or its URL (`jku`, `x5u`, `jwk`)
    are ignored.
    """

    secret: str | None = None
    published: PublishedKeys | None = None
    audience: str | None = None
    issuer: str | None = None

    async def find_caller(self, token: str) -> Caller | None:
        """Return the caller that a token identifies, `None` if the token is invalid.

        Raises:
            TokenKeysUnavailable: the keys that could verify the token are unavailable.
        """
        try:
            header = jwt.get_unverified_header(token)
            claims = await self._claims(token, header)
        except INVALID:
            return None
        return caller_of(claims) if claims else None

    async def close(self) -> None:
        """Cancel a refresh of the published keys."""
        if self.published:
            await self.published.close()

    async def _claims(self, token: str, header: dict[str, Any]) -> dict[str, Any] | None:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if self.secret is not None and algorithm in SECRET_ALGORITHMS:
            return self._decode(token, self.secret, algorithm)
        if self.published is None or algorithm not in PUBLISHED_ALGORITHMS:
            return None
        for candidate in (await self.published.find(key_id, algorithm))[:MAX_CANDIDATES]:
            try:
                return self._decode(token, candidate.key, algorithm)
            except jwt.InvalidSignatureError:
                continue
        return None

    def _decode(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:  # noqa: ANN401 - a secret or a public key
        required = ["exp", "sub", *(["aud"] if self.audience else []), *(["iss"] if self.issuer else [])]
        options: Any = {"require": required, "verify_aud": self.audience is not None}
        return jwt.decode(
            token, key, [algorithm], options, audience=self.audience, issuer=self.issuer, leeway=LEEWAY_SECONDS
        )


def caller_of(claims: dict[str, Any]) -> Caller | None:
    """Return the caller in the claims of a token: `role`, `sub`, and `projects` if it is limited to some."""
    role, projects, subject = claims.get("role"), claims.get("projects"), claims.get("sub")
    if role not in list(Role) or not isinstance(subject, str) or not subject.strip():
        return None
    if "projects" in claims and not (isinstance(projects, list) and all(isinstance(one, str) for one in projects)):
        return None
    name = clean_text(subject)
    allowed = frozenset(one.lower() for one in projects) if isinstance(projects, list) else None
    return Caller(name, Role(role), allowed, f"{SUBJECT_PREFIX}{name}")

"""JSON Web Tokens that others issue: signed with a shared secret, or with a key that an identity provider publishes."""

from dataclasses import dataclass
from typing import Any

import jwt

from app.kit.json_values import clean_text
from app.models.api_key import Role
from app.services.access.api_keys import Caller
from app.services.access.published_keys import RSA_ALGORITHMS, PublishedKeys

SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
PUBLISHED_ALGORITHMS = (*RSA_ALGORITHMS, "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 10
MAX_CANDIDATES = 8
"""How many keys a token is tried with: those of one key id, or all where the token names none."""
INVALID = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What a token that is not valid ends in; PyJWT lets numbers and nesting beyond all bounds through as Python's own."""


def looks_like_token(key: str) -> bool:
    """Whether a credential has a token's three parts; our own API keys have no dot."""
    return key.count(".") == 2


@dataclass(frozen=True)
class TokenVerifier:
    """Checks signatures, times, audience, issuer and the `role` claim.

    A secret is never tried as a public key, nor the reverse. Headers that name a key by address or bring it along
    (`jku`, `x5u`, `jwk`) are not looked at.
    """

    secret: str | None = None
    published: PublishedKeys | None = None
    audience: str | None = None
    issuer: str | None = None

    async def find_caller(self, token: str) -> Caller | None:
        """The caller that a token speaks for, `None` when it is not valid here.

        Raises:
            TokenKeysUnavailable: there is no telling at present.
        """
        try:
            header = jwt.get_unverified_header(token)
            claims = await self._claims(token, header)
        except INVALID:
            return None
        return caller_of(claims) if claims else None

    async def close(self) -> None:
        """Give up what is under way."""
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
    """The caller in a token's claims: `role`, `sub`, and `projects` where it is valid for certain ones only."""
    role, projects, subject = claims.get("role"), claims.get("projects"), claims.get("sub")
    if role not in list(Role) or not isinstance(subject, str) or not subject.strip():
        return None
    if "projects" in claims and not (isinstance(projects, list) and all(isinstance(one, str) for one in projects)):
        return None
    name = clean_text(subject)
    allowed = frozenset(one.lower() for one in projects) if isinstance(projects, list) else None
    return Caller(name, Role(role), allowed, f"token:{name}")

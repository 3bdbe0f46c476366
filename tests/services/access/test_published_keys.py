"""Published keys: which algorithms they verify, how soon a withdrawn one is refused, and what a read delays."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.services.access import published_keys
from app.services.access.published_keys import PublishedKeys, TokenKeysUnavailable, keys_in
from app.services.access.tokens import TokenVerifier
from tests.fixtures.model_server import serve_app, stop_server
from tests.fixtures.waiting import wait_until

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refused because of that
P256, P384, P521 = (ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA_JWK = json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key()))
OTHER_RSA_JWK = json.loads(RSAAlgorithm.to_jwk(OTHER_RSA_KEY.public_key()))
KEYS: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA_KEY),
    **{"ES256": P256, "ES384": P384, "ES512": P521, "EdDSA": ED25519},
}


class Provider:
    """An identity provider: what it publishes, how often it was asked, and whether it answers."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.response: Response | None = None

    async def publish(self, _: Request) -> Response:
        """Answer with the key set."""
        self.reads += 1
        await self.answers.wait()
        return self.response or JSONResponse({"keys": self.keys})


class Clock:
    """A clock that a test moves on by itself."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which key sets age."""
    clock = Clock()
    monkeypatch.setattr(published_keys, "clock", clock)
    return clock


@pytest.fixture
def provider() -> Provider:
    """A provider that publishes the RSA key, without saying what for."""
    provider = Provider()
    provider.keys = [RSA_JWK | {"kid": "rsa"}]
    return provider


@pytest.fixture
async def verifier(provider: Provider, clock: Clock) -> AsyncGenerator[TokenVerifier]:
    """Accept the tokens that the provider's keys verify."""
    del clock
    server, task, url = await serve_app(Starlette(routes=[Route("/jwks", provider.publish)]))
    verifier = TokenVerifier(published=PublishedKeys(f"{url}/jwks"))
    yield verifier
    await verifier.close()
    provider.answers.set()
    await stop_server(server, task)


def token_by(key: Any, algorithm: str, key_id: str | None = None, **claims: Any) -> str:  # noqa: ANN401 - any key, any claim
    """A token of a viewer."""
    content = {"role": "viewer", "sub": "ada", "exp": time.time() + 600, **claims}
    return jwt.encode(content, key, algorithm, {"kid": key_id} if key_id else None)


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_published_key_without_alg_verifies_all_algorithms_of_its_type(
    verifier: TokenVerifier, provider: Provider, algorithm: str
) -> None:
    provider.keys = [
        RSA_JWK | {"kid": "rsa"},
        *(json.loads(ECAlgorithm.to_jwk(key.public_key())) for key in (P256, P384, P521)),
        json.loads(OKPAlgorithm.to_jwk(ED25519.public_key())),
    ]

    caller = await verifier.find_caller(token_by(KEYS[algorithm], algorithm))

    assert caller is not None
    assert (caller.name, caller.projects) == ("ada", None)


@pytest.mark.parametrize(
    ("entry", "algorithms"),
    [
        ({}, 6),
        ({"alg": "PS256"}, 1),
        ({"alg": "HS256"}, 0),
        ({"alg": "none"}, 0),
        ({"use": "sig", "key_ops": ["verify"]}, 6),
        ({"use": "enc"}, 0),
        ({"key_ops": ["encrypt"]}, 0),
        ({"n": "%%%"}, 0),
        ({"kty": "other"}, 0),
    ],
    ids=str,
)
def test_a_key_verifies_what_it_is_published_for(entry: dict[str, Any], algorithms: int) -> None:
    found = keys_in({"keys": [RSA_JWK | entry]})

    assert [len(key.algorithms) for key in found] == ([algorithms] if algorithms else [])


@pytest.mark.parametrize(
    "entry",
    [
        json.loads(RSAAlgorithm.to_jwk(WEAK_RSA_KEY.public_key())),
        json.loads(RSAAlgorithm.to_jwk(RSA_KEY)),
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldC0"},
        json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256K1()).public_key())),
        {"kty": "RSA"},
        "a text",
    ],
    ids=["weak", "private", "secret", "another curve", "incomplete", "no object"],
)
def test_a_key_that_must_not_verify_tokens_is_left_out(entry: Any) -> None:  # noqa: ANN401 - anything in a key set
    assert keys_in({"keys": [entry, RSA_JWK | {"kid": "good"}]})[0].key_id == "good"


async def test_a_withdrawn_key_is_refused_within_five_minutes(
    verifier: TokenVerifier, provider: Provider, clock: Clock
) -> None:
    token = token_by(RSA_KEY, "RS256", "rsa")
    before = await verifier.find_caller(token)
    provider.keys = [OTHER_RSA_JWK | {"kid": "other"}]
    clock.now += 300

    after = await verifier.find_caller(token)

    assert (before is not None, after) == (True, None)


async def test_under_load_the_keys_are_read_again_in_the_background(
    verifier: TokenVerifier, provider: Provider, clock: Clock
) -> None:
    token = token_by(RSA_KEY, "RS256", "rsa")
    await verifier.find_caller(token)
    provider.keys = []
    clock.now += 150
    provider.answers.clear()

    while_reading = [await asyncio.wait_for(verifier.find_caller(token), 1) for _ in range(3)]
    provider.answers.set()

    async def is_refused() -> bool:
        return await verifier.find_caller(token) is None

    await wait_until(is_refused, seconds=5)
    assert None not in while_reading
    assert provider.reads == 2


async def test_tokens_with_unknown_key_ids_delay_no_good_token_and_cause_few_reads(
    verifier: TokenVerifier, provider: Provider, clock: Clock
) -> None:
    good, unknown = token_by(RSA_KEY, "RS256", "rsa"), token_by(OTHER_RSA_KEY, "RS256", "unknown")
    await verifier.find_caller(good)
    clock.now += 60
    provider.answers.clear()
    guessing = [asyncio.create_task(verifier.find_caller(unknown)) for _ in range(20)]

    async def is_reading() -> bool:
        return provider.reads == 2

    await wait_until(is_reading, seconds=5)
    meanwhile = await asyncio.wait_for(verifier.find_caller(good), 1)
    provider.answers.set()
    refused = await asyncio.gather(*guessing)
    later = [await verifier.find_caller(unknown) for _ in range(20)]

    assert meanwhile is not None
    assert refused + later == [None] * 40
    assert provider.reads == 2


async def test_a_key_that_is_published_later_is_accepted(
    verifier: TokenVerifier, provider: Provider, clock: Clock
) -> None:
    new = token_by(OTHER_RSA_KEY, "RS256", "new")
    before = await verifier.find_caller(new)
    provider.keys.append(OTHER_RSA_JWK | {"kid": "new"})
    clock.now += 31

    after = await verifier.find_caller(new)

    assert (before, after is not None) == (None, True)


@pytest.mark.parametrize(
    "response",
    [
        RedirectResponse("http://127.0.0.1:1/jwks"),
        Response("[]", media_type="application/json"),
        Response('{"keys": {}}', media_type="application/json"),
        Response("[" * 100_000, media_type="application/json"),
        Response(b" " * 2 * 1024 * 1024),
        Response(status_code=500),
        Response(status_code=204),
    ],
    ids=["redirect", "list", "no keys", "deep", "large", "error", "empty"],
)
async def test_a_provider_that_publishes_no_key_set_makes_tokens_unverifiable_for_now(
    verifier: TokenVerifier, provider: Provider, response: Response
) -> None:
    provider.response = response

    with pytest.raises(TokenKeysUnavailable):
        await verifier.find_caller(token_by(RSA_KEY, "RS256", "rsa"))


async def test_a_provider_that_is_unavailable_for_minutes_ends_no_good_token_at_once(
    verifier: TokenVerifier, provider: Provider, clock: Clock
) -> None:
    token = token_by(RSA_KEY, "RS256", "rsa")
    await verifier.find_caller(token)
    provider.response = Response(status_code=503)
    clock.now += 240

    meanwhile = await verifier.find_caller(token)
    clock.now += 60

    assert meanwhile is not None
    with pytest.raises(TokenKeysUnavailable):
        await verifier.find_caller(token)


async def test_two_keys_may_share_an_id(verifier: TokenVerifier, provider: Provider) -> None:
    provider.keys = [OTHER_RSA_JWK | {"kid": "same"}, RSA_JWK | {"kid": "same"}]

    callers = [await verifier.find_caller(token_by(key, "RS256", "same")) for key in (RSA_KEY, OTHER_RSA_KEY)]

    assert None not in callers

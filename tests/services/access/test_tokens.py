"""JSON Web Tokens: by a secret, by published keys, and nothing that only looks like one."""

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.services.access.tokens import caller_of
from tests.conftest import PROJECT, Service, StartService
from tests.fixtures.model_server import serve_app, stop_server

SECRET = "a secret of more than thirty-two bytes"
OWN_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
async def jwks_url() -> AsyncGenerator[str]:
    """An identity provider that publishes one key."""
    published = json.loads(RSAAlgorithm.to_jwk(OWN_KEY.public_key())) | {"kid": "key-1", "alg": "RS256"}

    async def keys(_: Request) -> JSONResponse:
        return JSONResponse({"keys": [published]})

    server, task, url = await serve_app(Starlette(routes=[Route("/jwks", keys)]))
    yield f"{url}/jwks"
    await stop_server(server, task)


async def status_with(service: Service, token: str, path: str = "/api/v1/executions") -> int:
    """What a request with a token is answered."""
    return (await service.http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code


async def test_a_token_by_the_secret_has_the_role_it_claims(start_service: StartService) -> None:
    viewer = jwt.encode({"role": "viewer", "sub": "ada"}, SECRET)
    admin = jwt.encode({"role": "admin", "exp": time.time() + 60}, SECRET)

    async with start_service(jwt_secret=SecretStr(SECRET)) as service:
        statuses = [
            await status_with(service, viewer),
            await status_with(service, viewer, "/api/v1/api-keys"),
            await status_with(service, admin, "/api/v1/api-keys"),
        ]

    assert statuses == [200, 403, 200]


@pytest.mark.parametrize(
    "token",
    [
        jwt.encode({"role": "admin"}, "another secret of more than thirty-two bytes"),
        jwt.encode({"role": "admin", "exp": 1}, SECRET),
        jwt.encode({"role": "owner"}, SECRET),
        jwt.encode({"sub": "nobody"}, SECRET),
        jwt.encode({"role": ["admin"]}, SECRET),
        jwt.encode({"role": {"$ne": None}}, SECRET),
        jwt.encode({"role": "admin"}, "", algorithm="none"),
        "a.b.c",
    ],
    ids=["wrong secret", "expired", "unknown role", "no role", "list of roles", "operator", "unsigned", "no token"],
)
async def test_a_token_that_is_not_valid_here_is_refused(start_service: StartService, token: str) -> None:
    async with start_service(jwt_secret=SecretStr(SECRET)) as service:
        assert await status_with(service, token, "/api/v1/departments") == 401


def test_the_name_in_a_token_is_one_that_can_be_stored() -> None:
    caller = caller_of({"role": "runner", "sub": "ada\ud800"})

    assert caller is not None
    assert (caller.name, caller.id) == ("ada?", "token:ada?")


async def test_a_token_by_a_published_key_is_accepted(start_service: StartService, jwks_url: str) -> None:
    claims: dict[str, Any] = {"role": "runner", "projects": [PROJECT]}
    good = jwt.encode(claims, OWN_KEY, algorithm="RS256", headers={"kid": "key-1"})
    forged = jwt.encode(claims, OTHER_KEY, algorithm="RS256", headers={"kid": "key-1"})
    unknown = jwt.encode(claims, OTHER_KEY, algorithm="RS256", headers={"kid": "key-2"})
    by_secret = jwt.encode(claims, SECRET)

    async with start_service(jwt_jwks_url=jwks_url) as service:
        statuses = [await status_with(service, token) for token in (good, forged, unknown, by_secret)]
        elsewhere = await service.http.post(
            "/api/v1/agents/plot-specialist-001/runs",
            json={"prompt": "x", "project": "66f0a1b2c3d4e5f600000000"},
            headers={"Authorization": f"Bearer {good}"},
        )

    assert statuses == [200, 401, 401, 401]
    assert elsewhere.status_code == 404


async def test_without_settings_no_token_is_accepted(service: Service) -> None:
    assert await status_with(service, jwt.encode({"role": "admin"}, SECRET)) == 401

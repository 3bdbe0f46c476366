"""JSON Web Tokens: by a secret, by published keys, and nothing that only looks like one."""

import base64
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.services.access.opening import make_token_verifier
from app.services.access.tokens import TokenVerifier, caller_of
from app.settings import Settings
from tests.fixtures.model_server import serve_app, stop_server
from tests.fixtures.services import PROJECT, Service, StartService

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


CLAIMS: dict[str, Any] = {"role": "admin", "sub": "ada", "exp": time.time() + 86_400}


def token(secret: str = SECRET, **claims: Any) -> str:  # noqa: ANN401 - any claim
    """A token of an admin; a claim that is `None` is left out."""
    content = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    payload = json.dumps(content).encode()
    return jwt.PyJWS().encode(payload, secret, "HS256")


async def status_with(service: Service, token: str, path: str = "/api/v1/executions") -> int:
    """Request the caller with a token."""
    return (await service.http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code


@pytest.mark.slow
async def test_a_token_by_the_secret_has_the_role_it_claims(start_service: StartService) -> None:
    viewer, admin = (token(role=role) for role in ("viewer", "admin"))

    async with start_service(jwt_secret=SecretStr(SECRET)) as service:
        statuses = [
            await status_with(service, viewer),
            await status_with(service, viewer, "/api/v1/api-keys"),
            await status_with(service, admin, "/api/v1/api-keys"),
        ]

    assert statuses == [200, 403, 200]


@pytest.mark.parametrize(
    "invalid",
    [
        token("another secret of more than thirty-two bytes"),
        token(exp=1),
        token(exp=None),
        token(exp="soon"),
        token(exp=1e999),
        token(sub=None),
        token(sub=""),
        token(sub=" "),
        token(sub=7),
        token(nbf=time.time() + 86_400),
        token(nbf=-1e999),
        token(role="owner"),
        token(role=None),
        token(role=["admin"]),
        token(role={"$ne": None}),
        token(projects="all"),
        token(projects=[7]),
        token(projects={}),
        jwt.encode(CLAIMS, "", algorithm="none"),
        "a.b.c",
        f"{base64.urlsafe_b64encode(b'[' * 4000).decode()}.e30.e30",
    ],
)
async def test_a_token_that_is_not_valid_here_is_refused(invalid: str) -> None:
    assert await TokenVerifier(SECRET).find_caller(invalid) is None


@pytest.mark.slow
async def test_an_invalid_token_is_answered_401_even_where_no_key_is_needed(start_service: StartService) -> None:
    async with start_service(jwt_secret=SecretStr(SECRET)) as service:
        assert await status_with(service, token(exp=1), "/api/v1/departments") == 401


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"aud": "agents", "iss": "https://id.example"}, True),
        ({"aud": ["other", "agents"], "iss": "https://id.example"}, True),
        ({"aud": "other", "iss": "https://id.example"}, False),
        ({"aud": ["other"], "iss": "https://id.example"}, False),
        ({"iss": "https://id.example"}, False),
        ({"aud": "agents", "iss": "https://id.example.evil"}, False),
        ({"aud": "agents", "iss": ["https://id.example"]}, False),
        ({"aud": "agents"}, False),
        ({}, False),
    ],
    ids=str,
)
async def test_audience_and_issuer_are_required_where_they_are_set(claims: dict[str, Any], *, accepted: bool) -> None:
    verifier = TokenVerifier(SECRET, audience="agents", issuer="https://id.example")

    assert (await verifier.find_caller(token(**claims)) is not None) == accepted


@pytest.mark.slow
async def test_audience_and_issuer_of_the_settings_hold(start_service: StartService) -> None:
    settings = {"jwt_secret": SecretStr(SECRET), "jwt_audience": "agents", "jwt_issuer": "https://id.example"}
    async with start_service(**settings) as service:
        statuses = [
            await status_with(service, token(aud="agents", iss="https://id.example")),
            await status_with(service, token(aud="agents", iss="https://other.example")),
            await status_with(service, token(aud="other", iss="https://id.example")),
        ]

    assert statuses == [200, 401, 401]


@pytest.mark.parametrize(("audience", "warnings"), [(None, 1), ("agents", 0)])
def test_a_start_with_published_keys_and_no_audience_warns(audience: str | None, warnings: int) -> None:
    settings = Settings(jwt_jwks_url="https://id.example/jwks", jwt_audience=audience)

    with structlog.testing.capture_logs() as lines:
        make_token_verifier(settings)

    assert [line["event"] for line in lines] == ["jwt-audience-unset"] * warnings


@pytest.mark.slow
async def test_a_token_without_projects_sees_all_and_one_with_an_empty_list_none(
    start_service: StartService, models_config: Path
) -> None:
    async with start_service(jwt_secret=SecretStr(SECRET), models_config=models_config) as service:
        run = await service.run_agent("plot-specialist-001", judge=False)
        seen: dict[str, tuple[int, int, Any]] = {}
        limits: dict[str, dict[str, Any]] = {
            "all": {},
            "none": {"projects": []},
            "own": {"projects": [PROJECT.upper()]},
        }
        for name, claims in limits.items():
            headers = {"Authorization": f"Bearer {token(role='admin', **claims)}"}
            runs = (await service.http.get("/api/v1/executions", headers=headers)).json()["total"]
            one = await service.http.get(f"/api/v1/executions/{run['executionId']}", headers=headers)
            quality = await service.http.get("/api/v1/analytics/quality", headers=headers)
            keys = await service.http.get("/api/v1/api-keys", headers=headers)
            me = (await service.http.get("/api/v1/me", headers=headers)).json()
            assert quality.status_code == 200
            assert keys.status_code == (200 if name == "all" else 403)
            seen[name] = (runs, one.status_code, me["projects"])

    assert seen == {"all": (1, 200, None), "none": (0, 404, []), "own": (1, 200, [PROJECT])}


def test_the_name_in_a_token_is_one_that_can_be_stored() -> None:
    caller = caller_of({"role": "runner", "sub": "ada\ud800"})

    assert caller is not None
    assert (caller.name, caller.id) == ("ada?", "token:ada?")


@pytest.mark.slow
async def test_a_token_by_a_published_key_is_accepted(start_service: StartService, jwks_url: str) -> None:
    claims: dict[str, Any] = CLAIMS | {"role": "runner", "projects": [PROJECT]}
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


@pytest.mark.slow
async def test_without_settings_no_token_is_accepted(service: Service) -> None:
    assert await status_with(service, token()) == 401

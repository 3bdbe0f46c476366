"""Permissions: every route of the OpenAPI description with every role."""

import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from app.models.api_key import Role
from app.services.access.api_keys import ApiKeyStore, Caller, hash_key
from app.services.access.authenticator import Authenticator, NotAllowed, NotAuthenticated, key_in, require
from app.services.access.tokens import TokenVerifier
from tests.fixtures.services import ADMIN_KEY, PROJECT, Service

ORDER = (None, "viewer", "runner", "admin")
PUBLIC = None
READ_BY_ALL = ("/api/v1/departments", "/api/v1/agents", "/api/v1/custom-tools")
ME = ("/api/v1/me", "/api/v1/me/sign-in")
TICKETS = "/stream-ticket"
VIEWED = (
    "/api/v1/executions",
    "/api/v1/approvals",
    "/api/v1/models",
    "/api/v1/analytics",
    "/api/v1/quality",
    "/api/v1/mcp-servers",
)


def needed_role(method: str, path: str) -> str | None:
    """The smallest role that a route needs, by the contract's table."""
    if not path.startswith("/api/v1") or (method == "get" and path.startswith(READ_BY_ALL)) or path in ME:
        return PUBLIC
    if path.endswith(("/runs", "/cancel", "/retry", "/review", "/decision")) or path == "/api/v1/orchestrations":
        return "runner"
    if (method == "get" and path.startswith(VIEWED) and not path.endswith("/prompts")) or path.endswith(TICKETS):
        return "viewer"
    return "admin"


@pytest.fixture
async def keys(shared_service: Service) -> dict[str | None, dict[str, str]]:
    """The headers of a caller of each role."""
    made: dict[str | None, dict[str, str]] = {None: {}}
    for role in ("viewer", "runner", "admin"):
        answer = await shared_service.http.post("/api/v1/api-keys", json={"name": "of the matrix", "role": role})
        made[role] = {"X-API-Key": answer.json()["key"]}
    return made


@pytest.fixture
async def caller(shared_service: Service) -> AsyncGenerator[httpx.AsyncClient]:
    """A client without a key of its own."""
    async with httpx.AsyncClient(base_url=shared_service.url, timeout=40) as http:
        yield http


@pytest.mark.slow
async def test_every_route_accepts_exactly_the_roles_of_the_contract(
    caller: httpx.AsyncClient, keys: dict[str | None, dict[str, str]]
) -> None:
    document: dict[str, Any] = (await caller.get("/openapi.json")).json()
    routes = [(method, path) for path, methods in document["paths"].items() for method in methods]
    wrong: list[str] = []

    for method, path in routes:
        needed = needed_role(method, path)
        for role, headers in keys.items():
            url = re.sub(r"{\w+}", "nothing-has-this-name", path)
            body: dict[str, Any] | None = {} if method in ("post", "put", "patch") else None
            answer = await caller.request(method, url, headers=headers, json=body)
            enough = ORDER.index(role) >= ORDER.index(needed)
            refused = 401 if role is None else 403
            if (answer.status_code in (401, 403)) == enough or (not enough and answer.status_code != refused):
                wrong.append(f"{method} {path} as {role}: {answer.status_code}")

    assert len(routes) >= 15
    assert wrong == []


@pytest.mark.slow
async def test_an_admin_key_made_for_a_project_edits_nothing_that_all_projects_share(
    shared_service: Service, caller: httpx.AsyncClient
) -> None:
    body = {"name": "of the matrix", "role": "admin", "projects": [PROJECT]}
    headers = {"X-API-Key": (await shared_service.http.post("/api/v1/api-keys", json=body)).json()["key"]}
    document: dict[str, Any] = (await caller.get("/openapi.json")).json()
    own = {"deleteExecution", "getExecutionPrompts", "updateExecution"}
    wrong: list[str] = []

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shared = needed_role(method, path) == "admin" and operation["operationId"] not in own
            url = re.sub(r"{\w+}", "nothing-has-this-name", path)
            sent: dict[str, Any] | None = {} if method in ("post", "put", "patch") else None
            answer = await caller.request(method, url, headers=headers, json=sent)
            if (answer.status_code == 403) != shared:
                wrong.append(f"{method} {path}: {answer.status_code}")
            if shared:
                assert (
                    answer.json()["detail"]
                    == "This request affects all projects, but the key is limited to certain ones."
                )

    assert wrong == []


async def test_without_a_key_no_route_but_the_public_ones_answers(caller: httpx.AsyncClient) -> None:
    document: dict[str, Any] = (await caller.get("/openapi.json")).json()
    gets = [path for path, methods in document["paths"].items() if "get" in methods]

    open_ones = {path for path in gets if (await caller.get(path)).status_code not in (401, 403)}

    assert open_ones == {path for path in gets if needed_role("get", path) is PUBLIC}


@pytest.mark.parametrize(
    ("role", "needed", "enough"),
    [
        (None, Role.VIEWER, False),
        (Role.VIEWER, Role.VIEWER, True),
        (Role.VIEWER, Role.RUNNER, False),
        (Role.RUNNER, Role.VIEWER, True),
        (Role.RUNNER, Role.ADMIN, False),
        (Role.ADMIN, Role.VIEWER, True),
        (Role.ADMIN, Role.ADMIN, True),
    ],
)
def test_each_role_includes_those_before_it(role: Role | None, needed: Role, *, enough: bool) -> None:
    caller = Caller("a key", role)

    if enough:
        assert require(caller, needed) is caller
    else:
        with pytest.raises(NotAllowed):
            require(caller, needed)


def test_an_anonymous_caller_needs_a_key_even_as_a_viewer() -> None:
    with pytest.raises(NotAuthenticated):
        require(Caller("anonymous", Role.VIEWER), Role.RUNNER)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bEARER   abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"cookie": "key=abc"}, None),
    ],
    ids=str,
)
def test_a_key_is_found_in_either_header(headers: dict[str, str], key: str | None) -> None:
    assert key_in(headers) == key


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": "Basic abc"},
        {"authorization": "abc"},
        {"x-api-key": ""},
        {"authorization": "Bearer abc", "x-api-key": "def"},
        {"authorization": "Bearer abc", "x-api-key": "abc"},
        {"authorization": "Basic abc", "x-api-key": "def"},
    ],
    ids=str,
)
def test_impossible_credentials_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(NotAuthenticated):
        key_in(headers)


@pytest.mark.parametrize("key", ["", "x" * 513, "truncated"[:4], "ключ", "\ud800", ADMIN_KEY[:-1], ADMIN_KEY + " "])
async def test_an_unknown_key_is_refused(shared_service: Service, key: str) -> None:
    with pytest.raises(NotAuthenticated):
        await shared_service.services.authenticator.identify_key(key)


async def test_the_bootstrap_key_is_an_admin_and_no_bootstrap_key_is_no_open_door(shared_service: Service) -> None:
    database = shared_service.services.database
    without = Authenticator(ApiKeyStore(database, admin_key=None), None)

    caller = await shared_service.services.authenticator.identify_key(ADMIN_KEY)

    assert (caller.role, caller.projects) == (Role.ADMIN, None)
    for key in ("", "None", hash_key(ADMIN_KEY)):
        with pytest.raises(NotAuthenticated):
            await without.identify_key(key)


@pytest.mark.parametrize(
    "key", ["an.admin.key-of-the-tests", "three words.and.dots", "k" * 512], ids=lambda key: key[:20]
)
async def test_a_bootstrap_key_of_any_form_is_the_bootstrap_key(shared_service: Service, key: str) -> None:
    keys = ApiKeyStore(shared_service.services.database, admin_key=key)

    caller = await Authenticator(keys, None, TokenVerifier("a secret of more than thirty-two bytes")).identify_key(key)

    assert (caller.id, caller.role) == ("bootstrap", Role.ADMIN)


def test_a_caller_without_projects_sees_all_and_one_with_projects_its_own_alone() -> None:
    everyone, one = Caller("a", Role.ADMIN), Caller("b", Role.ADMIN, frozenset({"66f0a1b2c3d4e5f601234567"}))
    none = Caller("c", Role.ADMIN, frozenset())

    assert everyone.may_see(None)
    assert everyone.may_see("66f0a1b2c3d4e5f601234567")
    assert not none.may_see(None)
    assert not none.may_see("66f0a1b2c3d4e5f601234567")
    assert one.may_see("66F0A1B2C3D4E5F601234567")
    assert not one.may_see("66f0a1b2c3d4e5f601234568")
    assert not one.may_see(None)

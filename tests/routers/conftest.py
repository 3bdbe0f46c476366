"""Shared fixtures of the router tests: callers with and without a key, problems, sockets."""

from collections.abc import AsyncGenerator

import httpx
import pytest
from bson import ObjectId

from tests.fixtures.http_api import Gate, NewKey
from tests.fixtures.model_server import ModelServer
from tests.fixtures.services import Service


@pytest.fixture
async def anonymous(shared_service: Service) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the shared service without a key."""
    async with httpx.AsyncClient(base_url=shared_service.url, timeout=40) as http:
        yield http


@pytest.fixture
def new_key(shared_service: Service) -> NewKey:
    """Make a key for the shared service; what it gives back are the headers of a request with it."""

    async def make(role: str = "viewer", *projects: str) -> dict[str, str]:
        body = {"name": "of a test", "role": role, **({"projects": list(projects)} if projects else {})}
        answer = await shared_service.http.post("/api/v1/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['key']}"}

    return make


@pytest.fixture
def project() -> str:
    """A CMS project that only this test uses."""
    return str(ObjectId())


@pytest.fixture
def gate(model_server: ModelServer) -> Gate:
    """A gate before every model call that does an agent's work; the test opens it."""
    gate = Gate()
    model_server.on("work", gate)
    return gate

"""Shared fixtures of the router tests: callers with and without a key, problems, sockets."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from bson import ObjectId
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import Service
from tests.fixtures.model_server import Call, ModelServer, Reply

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "code"}
EXECUTION_NUMBERS = itertools.count(1)

Message = dict[str, Any]
NewKey = Callable[..., Awaitable[dict[str, str]]]


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


class Gate:
    """Holds the model calls that pass through it until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()

    async def __call__(self, _: Call) -> Reply:
        self.reached.set()
        await self.opened.wait()
        return "The work is done."


@pytest.fixture
def gate(model_server: ModelServer) -> Gate:
    """A gate before every model call that does an agent's work; the test opens it."""
    gate = Gate()
    model_server.on("work", gate)
    return gate


async def start_run(service: Service, project: str, **body: Any) -> str:  # noqa: ANN401 - any field of the body
    """Start a run of one agent and give back its execution's id, without waiting."""
    given = {"prompt": "Write something.", "project": project, "judge": False, **body}
    answer = await service.http.post("/api/v1/agents/plot-specialist-001/runs", json=given)
    assert answer.status_code == 202, answer.text
    return answer.json()["executionId"]


async def insert_foreign_executions(service: Service, count: int, **fields: Any) -> list[str]:  # noqa: ANN401 - any value
    """Store executions as another program would: pending, never run by this service."""
    ids = [f"exec_foreign_{next(EXECUTION_NUMBERS)}" for _ in range(count)]
    rows = [{"executionId": one, "status": "pending", "prompt": "x", **fields} for one in ids]
    await service.services.database["agent-executions"].insert_many(rows)
    return ids


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is a problem of this status and code, whole and without a trace of the inside."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) - {"errors"} == PROBLEM_MEMBERS
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"].endswith(code)
    assert unquote(body["instance"]) == answer.request.url.path
    assert body["detail"]
    assert answer.headers["x-request-id"]
    assert not any(word in answer.text for word in ("Traceback", "pymongo", "mongodb://", ".py"))
    return body


def wrong_fields(answer: httpx.Response) -> list[str]:
    """The paths of the fields that a validation problem names."""
    body = assert_problem(answer, 422, "validation-error")
    assert all(error["message"] for error in body["errors"])
    return [error["path"] for error in body["errors"]]


class Socket:
    """The client's end of an event socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.patience_seconds = 10.0

    async def send(self, **message: Any) -> None:  # noqa: ANN401 - any JSON value
        """Send a message; `afterSeq=3` is a field."""
        await self.connection.send(json.dumps(message))

    async def receive(self) -> Message:
        """The next message."""
        async with asyncio.timeout(self.patience_seconds):
            return json.loads(await self.connection.recv())

    async def ask(self, **message: Any) -> Message:  # noqa: ANN401 - any JSON value
        """Send a message and give back what comes next."""
        await self.send(**message)
        return await self.receive()

    async def until_end(self) -> list[Message]:
        """Everything up to and with `execution-end`."""
        messages = [await self.receive()]
        while messages[-1]["type"] != "execution-end":
            messages.append(await self.receive())
        return messages

    async def close_code(self) -> int:
        """The code with which the server closes the socket."""
        async with asyncio.timeout(10):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code

    async def is_open(self) -> bool:
        """Whether the socket still answers."""
        return await self.ask(type="ping") == {"type": "pong"}


@asynccontextmanager
async def open_socket(
    service: Service, headers: Mapping[str, str] | None = None, host: str | None = None
) -> AsyncGenerator[Socket]:
    """A socket to a service, under another host name where one is given.

    Without headers the handshake carries the admin key.
    """
    given = service.http.headers if headers is None else headers
    chosen = {name: value for name, value in given.items() if name.lower() in ("authorization", "x-api-key", "origin")}
    address, port = service.url.removeprefix("http://").split(":")
    url = f"ws://{host}/api/agent-events" if host else service.websocket_url
    handshake = connect(url, additional_headers=chosen, max_size=None, host=address, port=int(port))
    async with handshake as connection:
        yield Socket(connection)

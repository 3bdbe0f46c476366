"""The access log of a served process: callers, actions and addresses, but no credential at any level."""

import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.fixtures.model_server import ModelServer
from tests.fixtures.processes import serving
from tests.fixtures.services import PROJECT, write_models_config

BOOTSTRAP_KEY = "a-bootstrap-admin-key-of-the-log"
BAD_KEY = "da_a-key-that-is-not-valid-here-at-all"
SECRET = "a secret of more than thirty-two bytes"
TOKEN = jwt.encode({"role": "runner", "sub": "ada@studio.example", "exp": time.time() + 3600}, SECRET)
MODEL_KEY = "key-of-the-tests"
Line = dict[str, Any]


class Log:
    """The lines of a process that has ended, and the credentials that it was given."""

    def __init__(self, text: str, key: dict[str, Any], ids: dict[str, str]) -> None:
        self.text = text
        self.lines: list[Line] = [json.loads(line) for line in text.splitlines()]
        self.key_id: str = key["id"]
        self.credentials = (BOOTSTRAP_KEY, BAD_KEY, SECRET, TOKEN, MODEL_KEY, key["key"])
        self.ids = ids

    def of(self, **wanted: str | None) -> list[Line]:
        """The lines with these values."""
        return [line for line in self.lines if all(line.get(name) == value for name, value in wanted.items())]


async def say_hello(url: str, credential: str) -> None:
    """Authenticate at a socket, whose address has the credential too, as those of careless clients do."""
    async with connect(url.replace("http", "ws", 1) + f"/api/agent-events?key={quote(credential)}") as socket:
        try:
            for message in ({"type": "auth", "token": credential}, {"type": "ping"}):
                await socket.send(json.dumps(message))
            await socket.recv()
        except ConnectionClosed:
            return


async def use(http: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    """Change, start, review, cancel and fail; the ids of what came of it."""
    runs = "/api/v1/agents/plot-specialist-001/runs"
    body = {"prompt": "Write something.", "project": PROJECT, "judge": False}
    changed = await http.patch("/api/v1/agents/plot-specialist-001", json={"name": "Plot"}, headers=headers)
    run = await http.post(runs, json=body, headers={**headers, "Prefer": "wait=30"})
    run_id = run.json()["executionId"]
    reviewed = await http.post(f"/api/v1/executions/{run_id}/review", json={"status": "approved"}, headers=headers)
    by_token = await http.post(runs, json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    token_run_id = by_token.json()["executionId"]
    cancelled = await http.post(f"/api/v1/executions/{token_run_id}/cancel", headers=headers)
    failed = await http.get("/api/v1/executions", headers={"Authorization": f"Bearer {BAD_KEY}"})
    malformed = await http.get("/api/v1/executions", headers={"Authorization": f"Basic {BAD_KEY}"})
    assert [answer.status_code for answer in (changed, run, reviewed, by_token)] == [200, 200, 200, 202]
    assert cancelled.status_code in (202, 409)
    assert [answer.status_code for answer in (failed, malformed)] == [401, 401]
    return {"run": run_id, "token run": token_run_id}


@pytest.fixture(scope="module")
async def log(tmp_path_factory: pytest.TempPathFactory, shared_model_server: ModelServer) -> Log:
    """The log, at the lowest level, of a process that was used and attacked a little."""
    directory = tmp_path_factory.mktemp("log")
    shared_model_server.reset()
    config = write_models_config(directory / "models.yaml", shared_model_server.url)
    variables = {"LOG_LEVEL": "debug", "LOG_FORMAT": "json", "ADMIN_API_KEY": BOOTSTRAP_KEY, "JWT_SECRET": SECRET}
    async with serving(directory, "serve", MODELS_CONFIG=str(config), **variables) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=40) as http:
            bootstrap = {"X-API-Key": BOOTSTRAP_KEY}
            made = await http.post("/api/v1/api-keys", json={"name": "n", "role": "admin"}, headers=bootstrap)
            key: dict[str, Any] = made.json()
            ids = await use(http, {"Authorization": f"Bearer {key['key']}"})
        for credential in (BOOTSTRAP_KEY, TOKEN, BAD_KEY):
            await say_hello(server.url, credential)
    return Log((directory / "serve.log").read_text(), key, ids)


@pytest.mark.slow
def test_no_credential_is_logged_at_any_level(log: Log) -> None:
    assert [credential for credential in log.credentials if credential in log.text] == []


def test_every_line_has_the_one_form(log: Log) -> None:
    assert len(log.lines) > 10
    assert [line for line in log.lines if not {"event", "level", "timestamp"} <= set(line)] == []


@pytest.mark.parametrize(
    "operation", ["updateAgent", "startAgentRun", "reviewExecution", "cancelExecution", "createApiKey"]
)
def test_a_change_is_logged_with_the_caller_and_its_address(log: Log, operation: str) -> None:
    lines = log.of(event="request", operation=operation)

    callers = {line["caller"] for line in lines}
    assert callers == {
        "createApiKey": {"bootstrap"},
        "startAgentRun": {log.key_id, "token:ada@studio.example"},
    }.get(operation, {log.key_id})
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert all(line["requestId"] for line in lines)


def test_a_start_and_a_review_name_the_execution(log: Log) -> None:
    (started,) = log.of(event="run-accepted", executionId=log.ids["run"])
    (by_token,) = log.of(event="run-accepted", executionId=log.ids["token run"])
    (reviewed,) = log.of(event="execution-reviewed", executionId=log.ids["run"])

    assert (started["caller"], started["address"]) == (log.key_id, "127.0.0.1")
    assert (by_token["caller"], by_token["address"]) == ("token:ada@studio.example", "127.0.0.1")
    assert (reviewed["caller"], reviewed["status"]) == (log.key_id, "approved")


def test_each_failed_authentication_is_logged_with_its_address(log: Log) -> None:
    failures = log.of(event="authentication-failed")

    assert [line["reason"] for line in failures] == [
        *("invalid credentials", "malformed credentials", "invalid credentials")
    ]
    assert {line["address"] for line in failures} == {"127.0.0.1"}
    assert all("caller" not in line and line["requestId"] for line in failures)


def test_a_socket_is_logged_with_its_caller(log: Log) -> None:
    sockets = log.of(event="request", method="WEBSOCKET")

    assert {line.get("caller") for line in sockets} == {"bootstrap", "token:ada@studio.example", None}

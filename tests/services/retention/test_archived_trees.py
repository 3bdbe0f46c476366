"""An archived tree answers as before, byte for byte: over REST, as Server-Sent Events and on the event socket."""

from typing import Any

import orjson
import pytest
import websockets

from app.events.log import log_rows
from tests.fixtures.model_server import ModelServer
from tests.fixtures.runs import DEPARTMENT, calls_tool
from tests.fixtures.services import ADMIN_KEY, Service
from tests.services.retention.conftest import Keeper

BIG = "All work and no play makes Jack a dull boy. " * 2500
"""Too large for an event, which therefore is truncated."""
LATER = ("archivedAt", "archive", "updatedAt")
"""The fields of an execution that differ once it is archived."""


async def answers_about(service: Service, execution_id: str, events: int) -> dict[str, bytes]:
    """All that the service answers about an execution."""
    base = f"/api/v1/executions/{execution_id}"
    paths = ["/events?limit=200", "/events?after=3&limit=2", "/prompts", "/calls?limit=200", "/calls?limit=2", "/tree"]
    paths += [f"/events/{seq}" for seq in range(1, events + 1)]
    found = {path: (await service.http.get(base + path)).content for path in paths}
    async with service.http.stream("GET", f"{base}/events/stream") as stream:
        found["sse"] = await stream.aread()
    found["socket"] = b"\n".join(await frames_of(service, execution_id))
    read: dict[str, Any] = (await service.http.get(base)).json()
    found["execution"] = orjson.dumps({name: value for name, value in read.items() if name not in LATER})
    return found


async def frames_of(service: Service, execution_id: str) -> list[bytes]:
    """All frames about an execution on the event socket."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with websockets.connect(service.websocket_url, additional_headers=headers) as socket:
        await socket.send(orjson.dumps({"type": "subscribe", "executionId": execution_id}).decode())
        found = [str(await socket.recv()).encode()]
        while orjson.loads(found[-1])["type"] not in ("execution-end", "error"):
            found.append(str(await socket.recv()).encode())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2000, 3], ids=["events in the documents", "events in pages too"])
async def test_an_archived_department_run_answers_byte_for_byte_as_before(
    service: Service, model_server: ModelServer, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(log_rows, "MAX_DOCUMENT_ROWS", rows)
    monkeypatch.setattr(log_rows, "MAX_PAGE_ROWS", rows)
    model_server.on("work", calls_tool("echo", {"text": BIG}, then="Done."))
    root_id = (await service.run_department(DEPARTMENT, prompt="Write " + "a long line. " * 100))["executionId"]
    await service.http.post(f"/api/v1/executions/{root_id}/review", json={"status": "approved", "notes": "Good."})
    members = [one["executionId"] async for one in keeper.executions.find({"rootExecutionId": root_id})]
    last = (await service.http.get(f"/api/v1/executions/{root_id}")).json()["lastSeq"]
    await keeper.age(root_id)
    pages = keeper.database["agent-execution-events"]
    assert (await pages.count_documents({"rootExecutionId": root_id}) > 2) == (rows == 3)
    before = {one: await answers_about(service, one, last) for one in members}

    done = await keeper.run()

    after = {one: await answers_about(service, one, last) for one in members}
    assert await pages.count_documents({"rootExecutionId": root_id}) == 0
    assert (done.trees, len(members), done.obstacles) == (1, 4, {})
    for member in members:
        assert {name for name in before[member] if before[member][name] != after[member][name]} == set()
    assert b'"truncated":true' in before[root_id]["/events?limit=200"]
    assert len(before[root_id]["/calls?limit=200"]) > 1000

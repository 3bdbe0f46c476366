"""The open work of a cancelled run is ended, seen from the other end: requests to models, tools' fetches, tools."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from starlette.responses import StreamingResponse

from tests.fixtures import builtin_tools
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, plan_of
from tests.fixtures.runs import ADA, BOB, DEPARTMENT, Gate, stored_tree
from tests.fixtures.services import PROJECT, Service, StartService
from tests.fixtures.waiting import wait_until
from tests.fixtures.web_server import WebServer, web_server

AGENT = "plot-specialist-001"
MCP_PROGRAM = Path(__file__).parents[3] / "fixtures" / "mcp_server.py"
HANG_UP_SECONDS = 3
"""A second is promised; a busy machine has three times as long."""


async def start(service: Service, path: str = f"agents/{ADA}/runs", **body: object) -> str:
    answer = await service.http.post(
        f"/api/v1/{path}", json={"prompt": "Write.", "project": PROJECT, "judge": False, **body}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["executionId"]


async def cancel(service: Service, execution_id: str) -> None:
    answer = await service.http.post(f"/api/v1/executions/{execution_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")


async def test_a_request_to_a_model_is_closed(service: Service, model_server: ModelServer, gate: Gate) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Too late.")

    model_server.on("work", work)
    execution_id = await start(service)
    await wait_until(lambda: gate.waiting == 1)

    await cancel(service, execution_id)

    await wait_until(lambda: [call.execution_id for call in model_server.abandoned] == [execution_id], HANG_UP_SECONDS)


async def test_a_stream_of_a_model_is_closed_before_its_first_part_and_in_the_middle(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    begun, closed = list[str](), list[str]()

    async def endless(execution_id: str) -> AsyncIterator[str]:
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
        try:
            while True:
                part = {**chunk, "choices": [{"index": 0, "delta": {"content": "and "}, "finish_reason": None}]}
                yield f"data: {json.dumps(part)}\n\n"
                begun.append(execution_id)
                await asyncio.sleep(0.05)
        finally:
            closed.append(execution_id)

    async def work(call: Call) -> Reply:
        assert call.body["stream"]
        if "Say nothing" in call.text:
            return await gate.passed("Too late.")
        return StreamingResponse(endless(call.execution_id), media_type="text/event-stream")

    model_server.on("work", work)
    silent = await start(service, prompt="Say nothing.", deltas=True)
    talking = await start(service, prompt="Talk.", deltas=True)
    await wait_until(lambda: gate.waiting == 1 and talking in begun)

    await asyncio.gather(cancel(service, silent), cancel(service, talking))

    await wait_until(lambda: [call.execution_id for call in model_server.abandoned] == [silent], HANG_UP_SECONDS)
    await wait_until(lambda: closed == [talking], HANG_UP_SECONDS)


@pytest.mark.parametrize(("purpose", "count"), [("plan", 1), ("work", 2), ("judge", 1), ("review", 2), ("report", 1)])
async def test_all_model_calls_of_a_department_are_closed(
    service: Service, model_server: ModelServer, gate: Gate, purpose: str, count: int
) -> None:
    async def wait(_: Call) -> Reply:
        return await gate.passed("Too late.")

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [])))
    model_server.on(purpose, wait)
    execution_id = await start(service, f"departments/{DEPARTMENT}/runs", judge=True)
    await wait_until(lambda: gate.waiting >= count)

    await cancel(service, execution_id)

    tree = {raw["executionId"] for raw in (await stored_tree(service, execution_id)).values()}
    await wait_until(lambda: len(model_server.abandoned) == gate.waiting, HANG_UP_SECONDS)
    assert {call.execution_id for call in model_server.abandoned} <= tree


async def test_model_calls_of_an_orchestrations_departments_are_closed(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Too late.")

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [])))
    model_server.on("work", work)
    execution_id = await start(service, "orchestrations", departments=[DEPARTMENT])
    await wait_until(lambda: gate.waiting == 2)

    await cancel(service, execution_id)

    await wait_until(lambda: len(model_server.abandoned) == 2, HANG_UP_SECONDS)


@pytest.fixture
async def web() -> AsyncGenerator[WebServer]:
    """A server that a tool may fetch from."""
    async with web_server() as server:
        yield server


@pytest.fixture
async def equipped(start_service: StartService, models_config: Path, tmp_path: Path) -> AsyncGenerator[Service]:
    """A service with a tool in Python, a tool that fetches, and one of an MCP server, all granted to one agent."""
    servers = {"mcpServers": {"fixture": {"command": sys.executable, "args": [str(MCP_PROGRAM), "stdio"]}}}
    path = tmp_path / "servers.json"
    path.write_text(json.dumps(servers))
    settings = {
        "models_config": models_config,
        "mcp_servers": path,
        "tool_modules": ("tests.fixtures.builtin_tools",),
        "tool_egress_allowlist": ("127.0.0.1",),
        "tool_timeout_seconds": 60,
    }
    async with start_service(**settings) as service:

        async def is_connected() -> bool:
            return (await service.http.get("/api/v1/mcp-servers")).json()["items"][0]["connected"]

        await wait_until(is_connected, 60)
        code = "(input, context) => context.fetch(input.url)"
        schema = {"type": "object", "properties": {"url": {"type": "string"}}}
        tool = {
            "toolName": "fetchIt",
            "displayName": "Fetch",
            "description": "Fetches.",
            "executeFunction": code,
            "inputSchema": schema,
        }
        saved = await service.http.post("/api/v1/custom-tools", json=tool | {"isGlobal": True})
        assert saved.status_code == 201, saved.text
        names = ["waitForever", "fetchIt", "mcp:fixture/wait"]
        granted = await service.http.patch(f"/api/v1/agents/{AGENT}", json={"toolNames": names})
        assert granted.status_code == 200, granted.text
        yield service


@pytest.mark.slow
async def test_tools_of_every_kind_are_stopped_in_the_middle_of_their_work(
    equipped: Service, model_server: ModelServer, web: WebServer, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    web.silent.add("/never")
    web.answers["/never"] = b""
    calls = [
        ("waitForever", {}),
        ("fetchIt", {"url": web.url("/never")}),
        ("mcp__fixture__wait", {"file": str(notes)}),
    ]
    model_server.on("work", lambda call: completion(None, *calls))
    execution_id = await start(equipped, f"agents/{AGENT}/runs")
    await wait_until(lambda: execution_id in builtin_tools.WAITING and bool(web.requests) and notes.exists(), 20)
    assert (web.open_connections, execution_id in builtin_tools.CANCELLED) == (1, False)

    await cancel(equipped, execution_id)

    await wait_until(lambda: execution_id in builtin_tools.CANCELLED, HANG_UP_SECONDS)
    await wait_until(lambda: web.open_connections == 0, HANG_UP_SECONDS)
    await wait_until(lambda: notes.read_text().split() == ["waiting", "cancelled"], HANG_UP_SECONDS)
    assert len(model_server.calls) == 1

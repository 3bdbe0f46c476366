"""Event sockets whose client does not read, whose key is revoked, and that other clients and servers speak."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page, async_playwright
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.routers.sockets import sinks
from app.server.server import SERVER_OPTIONS
from tests.fixtures.http_api import Gate, insert_foreign_executions, open_socket, start_run
from tests.fixtures.services import ADMIN_KEY, Service, StartService
from tests.fixtures.valkey import ValkeyProcess

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
KEY_HEADERS = {"X-API-Key": ADMIN_KEY}
FOLLOW = """
([url, token, executionId]) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url);
  const messages = [];
  socket.onopen = () => {
    socket.send(JSON.stringify({ type: "auth", token }));
    socket.send(JSON.stringify({ type: "subscribe", executionId }));
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    messages.push(message);
    if (message.type === "subscribed") window.subscribed = true;
    if (message.type === "execution-end") { socket.close(); resolve(messages); }
  };
  socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
})
"""


async def large_execution(service: Service) -> str:
    """A finished execution of another program, with eight megabytes of events."""
    rows = [{"event": {"type": "x", "text": "x" * 2000}} for _ in range(4000)]
    (execution_id,) = await insert_foreign_executions(service, 1, status="completed", events=rows)
    return execution_id


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the service has closed a socket of its own accord."""
    event = asyncio.Event()
    outlet_close = sinks.DirectSink.close

    def note_close(sink: sinks.DirectSink, code: int, reason: str, patience_seconds: float) -> None:
        outlet_close(sink, code, reason, patience_seconds)
        event.set()

    monkeypatch.setattr(sinks.DirectSink, "close", note_close)
    return event


async def stalled_socket_s_numbers(service: Service, execution_id: str, closed: asyncio.Event) -> tuple[str, list[int]]:
    """Ask for everything and read nothing until the service closes; how it did, and what was on its way by then."""
    seen: list[int] = []
    async with connect(service.websocket_url, additional_headers=KEY_HEADERS, max_queue=1, max_size=None) as stalled:
        await stalled.send(json.dumps({"type": "subscribe", "executionId": execution_id}))
        async with asyncio.timeout(10):
            await closed.wait()
        with contextlib.suppress(ConnectionClosed):  # who reads on gets what was on its way, then the close frame
            while True:
                seen.append(json.loads(await stalled.recv()).get("seq", 0))
    return f"{stalled.close_code} {stalled.close_reason}", seen[1:]


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_closed_with_the_number_to_resume_from(
    shared_service: Service, monkeypatch: pytest.MonkeyPatch, closed: asyncio.Event
) -> None:
    monkeypatch.setattr(sinks, "STALLED_SECONDS", 0.3)
    execution_id = await large_execution(shared_service)

    async with open_socket(shared_service) as other:
        ending, seen = await stalled_socket_s_numbers(shared_service, execution_id, closed)
        await other.send(type="subscribe", executionId=execution_id, afterSeq=seen[-1])
        rest = await other.until_end()

    assert ending == f"4409 Too slow; resume with afterSeq {seen[-1]}"
    assert [*seen, *(event["seq"] for event in rest[1:-1])] == list(range(1, 4001))


@pytest.mark.slow
async def test_a_client_that_is_behind_and_answers_no_ping_is_closed_as_too_slow(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, closed: asyncio.Event
) -> None:
    monkeypatch.setitem(SERVER_OPTIONS, "ws_ping_interval", 0.5)
    monkeypatch.setitem(SERVER_OPTIONS, "ws_ping_timeout", 0.5)
    async with start_service() as service:
        execution_id = await large_execution(service)

        ending, seen = await stalled_socket_s_numbers(service, execution_id, closed)

    assert ending == f"4409 Too slow; resume with afterSeq {seen[-1]}"


@pytest.mark.slow
async def test_a_stalled_client_reads_from_the_database_and_delays_no_other(shared_service: Service) -> None:
    execution_id = await large_execution(shared_service)
    async with connect(
        shared_service.websocket_url, additional_headers=KEY_HEADERS, max_queue=1, max_size=None
    ) as stalled:
        await stalled.send(json.dumps({"type": "subscribe", "executionId": execution_id}))
        async with open_socket(shared_service) as other:
            await other.send(type="subscribe", executionId=execution_id)
            seen = await other.until_end()
        waiting = [one for one in asyncio.all_tasks() if one.get_name() == "replay" and not one.done()]
        stalled.transport.abort()

    assert len(seen) == 4002
    assert len(waiting) == 1


@pytest.mark.slow
async def test_a_revoked_key_s_sockets_and_streams_are_closed(
    shared_service: Service, gate: Gate, project: str
) -> None:
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()
    made = (await shared_service.http.post("/api/v1/api-keys", json={"name": "revoked", "role": "viewer"})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    path = f"/api/v1/executions/{execution_id}/events/stream"

    async with open_socket(shared_service, headers) as socket, open_socket(shared_service) as other:
        await socket.ask(type="subscribe", executionId=execution_id)
        async with shared_service.http.stream("GET", path, headers=headers) as answer:
            await shared_service.http.delete(f"/api/v1/api-keys/{made['id']}")
            code = await socket.close_code()
            async with asyncio.timeout(10):
                text = "".join([part async for part in answer.aiter_text()])
        still_open = await other.is_open()
    gate.opened.set()

    assert (code, still_open) == (4401, True)
    assert text.count("event: error") == 1
    assert "not-authenticated" in text


@pytest.mark.slow
async def test_a_server_without_the_shared_writer_gives_the_same_messages(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERVER_OPTIONS, "http", "httptools")
    monkeypatch.setitem(SERVER_OPTIONS, "ws", "websockets-sansio")
    async with start_service() as service:
        run = await service.run_department("audio")
        async with open_socket(service) as socket:
            await socket.ask(type="subscribe", executionId=run["executionId"])
            *events, end = await socket.until_end()

        assert events == await service.events(run["executionId"])
        assert end["lastSeq"] == run["lastSeq"]


async def test_aiohttp_s_websocket_client_follows_a_run(shared_service: Service, gate: Gate, project: str) -> None:
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()
    messages: list[dict[str, object]] = []

    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(shared_service.websocket_url, headers=KEY_HEADERS) as socket,
    ):
        await socket.send_json({"type": "subscribe", "executionId": execution_id})
        async with asyncio.timeout(10):
            while not messages or messages[-1]["type"] != "execution-end":
                messages.append(await socket.receive_json())
                if messages[-1]["type"] == "agent-start":
                    gate.opened.set()

    assert [message["type"] for message in messages] == [
        "subscribed",
        "agent-start",
        "agent-response",
        "agent-complete",
        "execution-end",
    ]


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    """A page of a real browser."""
    if not CHROMIUM:
        pytest.skip("There is no Chromium on this machine (Debian's package is `chromium`).")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield await browser.new_page()
        await browser.close()


@pytest.mark.slow
async def test_a_browser_follows_a_run(shared_service: Service, gate: Gate, project: str, page: Page) -> None:
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()
    await page.goto(f"{shared_service.url}/healthz")

    following = asyncio.create_task(page.evaluate(FOLLOW, [shared_service.websocket_url, ADMIN_KEY, execution_id]))
    await page.wait_for_function("window.subscribed")
    gate.opened.set()
    subscribed, *events, end = await following

    assert (subscribed["type"], end["type"], end["status"]) == ("subscribed", "execution-end", "completed")
    assert events == await shared_service.events(execution_id)


@pytest.mark.slow
async def test_a_run_of_one_service_is_followed_live_at_another_while_redis_loses_everything(
    start_service: StartService, models_config: Path, valkey: ValkeyProcess, gate: Gate, project: str
) -> None:
    shared = {"models_config": models_config, "redis_url": SecretStr(valkey.url)}
    async with start_service(**shared) as first, start_service(**shared) as second:
        execution_id = await start_run(first, project)
        await gate.reached.wait()
        async with open_socket(second) as socket:
            await socket.send(type="subscribe", executionId=execution_id)
            seen = [await socket.receive(), await socket.receive()]
            await valkey.flush()
            await valkey.stop()
            await valkey.start()
            gate.opened.set()
            seen += await socket.until_end()

        assert seen[1:-1] == await first.events(execution_id)
        assert [message["type"] for message in seen] == [
            "subscribed",
            "agent-start",
            "agent-response",
            "agent-complete",
            "execution-end",
        ]

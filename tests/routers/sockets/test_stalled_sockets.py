"""Sockets whose clients read nothing cost bounded memory, for half a minute at most."""

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.services import ADMIN_KEY

pytestmark = pytest.mark.long
HEADERS = {"X-API-Key": ADMIN_KEY}
SOCKETS = 200
MAX_BYTES_EACH = 1024 * 1024
WATCH_SECONDS = 10
CLOSED_SECONDS = 60
EXECUTION = "exec_of_another_program"


def resident_bytes(process: ServeProcess) -> int:
    """Return the resident memory of a process."""
    pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def store_large_execution(uri: str) -> None:
    """Eight megabytes of events in one execution."""
    rows = [{"event": {"type": "x", "text": "x" * 2000}} for _ in range(4000)]
    document = {"executionId": EXECUTION, "status": "completed", "prompt": "x", "events": rows}
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        await client.get_default_database()["agent-executions"].insert_one(document)


async def stall(stack: AsyncExitStack, url: str) -> ClientConnection:
    """A client that asks for everything and reads nothing."""
    socket = await stack.enter_async_context(
        connect(url, additional_headers=HEADERS, max_queue=1, max_size=None, ping_interval=None, close_timeout=1)
    )
    await socket.send(json.dumps({"type": "subscribe", "executionId": EXECUTION}))
    return socket


async def code_in_the_end(socket: ClientConnection) -> int | None:
    """Read what was on its way, to the close frame."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed:
        return socket.close_code


async def test_two_hundred_sockets_that_read_nothing_cost_less_than_a_megabyte_each(
    database_uri: str, tmp_path: Path
) -> None:
    await store_large_execution(database_uri)
    environment = {"MONGODB_URI": database_uri, "ADMIN_API_KEY": ADMIN_KEY, "SEED_ON_START": "false"}
    async with serving(tmp_path, **environment) as process, AsyncExitStack() as stack:
        url = f"{process.url.replace('http', 'ws')}/api/agent-events"
        async with connect(url, additional_headers=HEADERS, max_size=None) as reader:
            await reader.send(json.dumps({"type": "subscribe", "executionId": EXECUTION}))
            while json.loads(await reader.recv())["type"] != "execution-end":
                pass
            before = resident_bytes(process)
            stalled = [await stall(stack, url) for _ in range(SOCKETS)]
            most, watched_until = 0, time.monotonic() + WATCH_SECONDS
            while time.monotonic() < watched_until:
                most = max(most, resident_bytes(process) - before)
                asked = time.monotonic()
                await reader.send('{"type": "ping"}')
                await reader.recv()
                assert time.monotonic() - asked < 5
                await asyncio.sleep(0.1)
        print(f"\n{SOCKETS} stalled sockets: {most / SOCKETS / 1024:.0f} KiB each")  # noqa: T201 - for -s
        await asyncio.sleep(30)  # the time after which who reads nothing is given up
        async with asyncio.timeout(CLOSED_SECONDS):
            codes = await asyncio.gather(*map(code_in_the_end, stalled))

    assert most < SOCKETS * MAX_BYTES_EACH
    assert set(codes) == {4409}

"""The clients of the soak: they start runs until each is accepted, cancel some, and follow all to their ends."""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from benchmarks.service import ADMIN_KEY, PROJECT

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
FAULTS = (aiohttp.ClientError, OSError, TimeoutError)
AGAIN_SECONDS = 0.2


@dataclass
class Followed:
    """One accepted run and what its subscriber saw: frames by number, in the order in which they came."""

    execution_id: str
    kind: str
    accepted_at: float
    frames: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    ended: bool = False
    cancelled_at: float | None = None


@dataclass
class Clients:
    """Starts runs at an API, and keeps what became of them."""

    url: str
    http: aiohttp.ClientSession
    runs: list[Followed] = field(default_factory=list[Followed])
    keys: list[str] = field(default_factory=list[str])
    refusals: int = 0
    _enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def set_up(
        self, agents: list[dict[str, Any]], department: dict[str, Any], tools: list[dict[str, Any]]
    ) -> None:
        """Create what is to be run."""
        several = (*(("custom-tools", one) for one in tools), *(("agents", one) for one in agents))
        for path, body in (("departments", department), *several):
            async with self.http.post(f"{self.url}/api/v1/{path}", json=body, headers=HEADERS) as answer:
                if answer.status != 201:
                    raise RuntimeError(f"{path}: {answer.status} {await answer.text()}")

    async def keep_starting(self, agent: str, department: str, every_seconds: float) -> None:
        """Start runs, one after the other, until it is enough; returns when every one of them has ended."""
        async with asyncio.TaskGroup() as followers:
            while not self._enough.is_set():
                kind = "department" if len(self.keys) % 4 == 0 else "agent"
                path = f"departments/{department}" if kind == "department" else f"agents/{agent}"
                followers.create_task(self._see_through(kind, path))
                await asyncio.sleep(every_seconds)

    def stop_starting(self) -> None:
        """Start no more; what was started is followed to its end."""
        self._enough.set()

    async def _see_through(self, kind: str, path: str) -> None:
        key = uuid.uuid4().hex
        self.keys.append(key)
        body = {"prompt": f"Write {key}.", "project": PROJECT}
        headers = {**HEADERS, "Idempotency-Key": key}
        execution_id = None
        while execution_id is None:
            with contextlib.suppress(*FAULTS):
                timeout = aiohttp.ClientTimeout(total=5)
                url = f"{self.url}/api/v1/{path}/runs"
                async with self.http.post(url, json=body, headers=headers, timeout=timeout) as answer:
                    if answer.status == 202:
                        execution_id = (await answer.json())["executionId"]
                    else:
                        self.refusals += 1
            await asyncio.sleep(AGAIN_SECONDS if execution_id is None else 0)
        run = Followed(execution_id, kind, time.monotonic())
        self.runs.append(run)
        if random.random() < 0.1:  # noqa: S311 - chaos, not secrecy
            async with asyncio.TaskGroup() as group:
                group.create_task(self._cancel(run))
                group.create_task(self._follow(run))
        else:
            await self._follow(run)

    async def _cancel(self, run: Followed) -> None:
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311 - the same
        while not run.ended:
            with contextlib.suppress(*FAULTS):
                url = f"{self.url}/api/v1/executions/{run.execution_id}/cancel"
                async with self.http.post(url, headers=HEADERS, timeout=aiohttp.ClientTimeout(total=10)) as answer:
                    if answer.status == 202:
                        run.cancelled_at = time.monotonic()
                    if answer.status in (202, 409):
                        return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self, run: Followed) -> None:
        """Read events until the end, again from the last one whenever the stream breaks."""
        url = f"{self.url}/api/v1/executions/{run.execution_id}/events/stream"
        while not run.ended:
            headers = {**HEADERS, "Last-Event-ID": str(run.frames[-1][0] if run.frames else 0)}
            with contextlib.suppress(*FAULTS):
                timeout = aiohttp.ClientTimeout(total=None, sock_read=20, sock_connect=3)
                async with self.http.get(url, headers=headers, timeout=timeout) as answer:
                    if answer.status == 204:
                        run.ended = True
                    elif answer.status == 200:
                        await read_stream(answer, run)
            await asyncio.sleep(0 if run.ended else AGAIN_SECONDS)


async def read_stream(answer: aiohttp.ClientResponse, run: Followed) -> None:
    """Take what a stream of Server-Sent Events says."""
    async for name, data in events_of(answer):
        if name == "execution-end":
            run.ended = True
            return
        if "seq" in (event := orjson.loads(data)):
            run.frames.append((event["seq"], data))


async def events_of(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, bytes]]:
    """The name and data of each event."""
    name, data = "", b""
    async for line in answer.content:
        text = line.rstrip(b"\r\n")
        if text.startswith(b"event:"):
            name = text[6:].strip().decode()
        elif text.startswith(b"data:"):
            data = text[5:].strip()
        elif not text and name:
            yield name, data
            name, data = "", b""

"""Context managers for this process's bus and for background loops."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from app.database.connection import Database
from app.database.shared_secret import shared_secret
from app.events.stream.bus import InProcessBus
from app.events.stream.head_poller import HeadPoller
from app.events.stream.redis_bus import RedisBus
from app.events.stream.signatures import MessageSigner
from app.kit.concurrency import end_tasks


@asynccontextmanager
async def open_bus(redis_url: str | None, database: Database) -> AsyncGenerator[InProcessBus]:
    """Open the bus between processes if Redis is configured, otherwise one of this process, and poll other trees."""
    async with AsyncExitStack() as stack:
        bus = InProcessBus()
        if redis_url is not None:
            bus = RedisBus(redis_url, MessageSigner(await shared_secret(database, "event-messages")))
            await bus.start()
            stack.push_async_callback(bus.stop)
        await stack.enter_async_context(running_in_background(HeadPoller(database, bus).run(), "head poller"))
        yield bus


@asynccontextmanager
async def running_in_background(work: Coroutine[Any, Any, None], name: str) -> AsyncGenerator[None]:
    """Run a loop for as long as the context lasts."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        await end_tasks(task)

"""The supervisor of the embedded mongod, which restarts it while the service runs."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from app.database.embedded.mongod import EmbeddedMongod, EmbeddedMongodError
from app.kit.concurrency import end_tasks

FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 60.0
"""A mongod that ran for this long is restarted at once."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def running_mongod(mongod: EmbeddedMongod) -> AsyncGenerator[str]:
    """Run a mongod while the context lasts and return its URI; it is restarted on the same data and port if it ends.

    Raises:
        EmbeddedMongodError: the first start fails.
    """
    uri = await mongod.start()
    supervision = asyncio.create_task(keep_running(mongod), name="mongod supervisor")
    try:
        yield uri
    finally:
        try:
            await end_tasks(supervision)
        finally:
            await mongod.stop()


async def keep_running(mongod: EmbeddedMongod) -> None:
    """Restart mongod each time it ends, after a pause that grows while it keeps ending; never returns."""
    now = asyncio.get_running_loop().time
    pause = FIRST_PAUSE_SECONDS
    while True:
        began = now()
        status = await mongod.wait()
        if now() - began >= STEADY_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        log.error("embedded-mongod-ended", status=status)
        started = False
        while not started:
            log.warning("embedded-mongod-restart-scheduled", inSeconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)
            started = await start_again(mongod)


async def start_again(mongod: EmbeddedMongod) -> bool:
    """Try once to restart mongod, and return whether it accepts writes."""
    try:
        await mongod.restart()
    except (EmbeddedMongodError, OSError) as error:
        log.error("embedded-mongod-restart-failed", reason=str(error))
        return False
    except Exception:
        log.exception("embedded-mongod-restart-crashed")
        return False
    log.info("embedded-mongod-restarted", pid=mongod.pid)
    return True

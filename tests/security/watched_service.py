"""`python -m tests.security.watched_service LAGS`: the service, with a watch on how late its event loop is.

Each line of the file LAGS has a moment (monotonic seconds) and how late the event loop was in the second before it, in
milliseconds, sample by sample.
"""

import asyncio
import sys
import time
from pathlib import Path

import orjson

from app.cli.main import run
from app.logs import configure_logging
from app.server.serve import serve_until_stopped
from app.settings import Settings

SAMPLE_SECONDS = 0.005


async def watch(path: Path) -> None:
    """Sleep a little again and again, and write down how much longer it took."""
    lags: list[float] = []
    written = time.monotonic()
    with path.open("ab", buffering=0) as file:
        while True:
            asked = time.monotonic()
            await asyncio.sleep(SAMPLE_SECONDS)
            now = time.monotonic()
            lags.append(round((now - asked - SAMPLE_SECONDS) * 1000, 2))
            if now - written > 1:
                file.write(orjson.dumps([now, lags]) + b"\n")
                lags, written = [], now


async def main(path: Path) -> None:
    """Serve and watch until a signal comes."""
    settings = Settings.load()
    configure_logging("json", "info")
    watching = asyncio.create_task(watch(path))
    try:
        await serve_until_stopped(settings)
    finally:
        watching.cancel()


if __name__ == "__main__":
    run(main(Path(sys.argv[1])))

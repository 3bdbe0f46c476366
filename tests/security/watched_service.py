"""`python -m tests.security.watched_service LAGS`: the service, with a watch on how late its event loop is.

Each line of the file LAGS has a moment (monotonic seconds) and how late the event loop was in the second before it, in
milliseconds, sample by sample. The time that its thread waited for a processor is left out: the attackers and the
database run on the same few processors, which they do not in production. Time that it waited for other threads of the
service counts.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import orjson

from app.cli.main import run
from app.logs import configure_logging
from app.server.serve import serve_until_stopped
from app.settings import Settings

SAMPLE_SECONDS = 0.005


class Readiness:
    """How long this thread has been ready to run without a processor, as the kernel counts it."""

    def __init__(self) -> None:
        self._statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        return int(os.pread(self._statistics, 100, 0).split()[1]) / 1e9


async def watch(path: Path) -> None:
    """Sleep a little again and again, and write down how much longer it took."""
    lags: list[float] = []
    written, readiness = time.monotonic(), Readiness()
    with path.open("ab", buffering=0) as file:
        while True:
            asked, waited = time.monotonic(), readiness.seconds
            await asyncio.sleep(SAMPLE_SECONDS)
            now = time.monotonic()
            waited = readiness.seconds - waited
            lags.append(round(max(now - asked - SAMPLE_SECONDS - waited, 0.0) * 1000, 2))
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

"""The lag of an event loop: how late it comes back from short naps."""

import asyncio
import time

NAP_SECONDS = 0.005


async def measured_lag(stop: asyncio.Event) -> float:
    """The 99th percentile until `stop` is set, in seconds."""
    lags: list[float] = []
    while not stop.is_set():
        started = time.monotonic()
        await asyncio.sleep(NAP_SECONDS)
        lags.append(time.monotonic() - started - NAP_SECONDS)
    return sorted(lags)[len(lags) * 99 // 100]

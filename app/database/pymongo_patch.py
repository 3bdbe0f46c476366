"""PyMongo's waits under its own locks, made safe against repeated cancellation on Python 3.11.

PyMongo waits for a server, or a connection, with `asyncio.wait_for(condition.wait(), …)` while it holds a lock. Up to
Python 3.11 `wait_for` runs the wait in a task of its own; when its caller is cancelled twice (a time-out and a client
that hangs up, say) it leaves before that task has taken the lock back. The lock is then released by the wrong one or by
nobody: every later operation of the client fails with "Lock is not acquired", or hangs. `asyncio.timeout`, which
`wait_for` is built on from Python 3.12, waits in the caller's own task.
"""

import asyncio
import sys
from typing import Any

from pymongo.asynchronous import pool, topology

PATCHED_NAME = "_async_cond_wait"


async def wait_in_place(condition: Any, timeout: float | None) -> bool:  # noqa: ANN401, ASYNC109 - PyMongo's signature
    """Whether the condition was notified in time."""
    try:
        async with asyncio.timeout(timeout):
            return bool(await condition.wait())
    except TimeoutError:
        return False


def patch_waits() -> None:
    """Let PyMongo wait in its caller's own task, where this Python does not do so by itself."""
    if sys.version_info < (3, 12):
        for module in (pool, topology):
            assert hasattr(module, PATCHED_NAME)  # noqa: S101 - a PyMongo that waits otherwise must be looked at anew
            setattr(module, PATCHED_NAME, wait_in_place)

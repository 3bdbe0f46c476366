"""A patch that makes PyMongo's waits under its own locks safe against repeated cancellation on Python 3.11.

PyMongo waits for a server or a connection with `asyncio.wait_for(condition.wait(), …)` while it holds a lock. Up to
Python 3.11 `wait_for` runs the wait in a separate task. When its caller is cancelled twice (by a time-out and a client
that disconnects, for example), it returns before that task has reacquired the lock. The lock is then released by the
wrong task or never, and every later operation of the client fails with "Lock is not acquired", or hangs.
`asyncio.timeout`, which `wait_for` uses from Python 3.12 on, waits in the task of the caller.
"""

import asyncio
import sys
from typing import Any

from pymongo.asynchronous import pool, topology

PATCHED_NAME = "_async_cond_wait"


async def wait_in_place(condition: Any, timeout: float | None) -> bool:  # noqa: ANN401, ASYNC109 - PyMongo's signature
    """Return whether the condition was notified in time."""
    try:
        async with asyncio.timeout(timeout):
            return bool(await condition.wait())
    except TimeoutError:
        return False


def patch_waits() -> None:
    """Make PyMongo wait in the task of its caller on Python 3.11."""
    if sys.version_info < (3, 12):
        for module in (pool, topology):
            assert hasattr(module, PATCHED_NAME)  # noqa: S101 - a PyMongo that waits in another way needs a new review
            setattr(module, PATCHED_NAME, wait_in_place)

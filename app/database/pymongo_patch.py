"""Patches that make PyMongo's asynchronous client safe for callers that are cancelled.

1. PyMongo waits for a server or a connection with `asyncio.wait_for(condition.wait(), …)` while it holds a lock. Up to
   Python 3.11 `wait_for` runs the wait in a separate task. When its caller is cancelled twice (by a time-out and a
   client that disconnects, for example), it returns before that task has reacquired the lock. The lock is then released
   by the wrong task or never, and every later operation of the client fails with "Lock is not acquired", or hangs.
   `asyncio.timeout`, which `wait_for` uses from Python 3.12 on, waits in the task of the caller.
2. MongoDB runs the operations of a session one after another, and PyMongo reuses sessions from a pool. It discards a
   session after a connection error, but returns the session of a cancelled operation to the pool. If the server is
   still working on that operation, because a transaction has locked the documents to change, the next operation that
   gets the session waits for a lock that it does not need.
"""

import asyncio
import sys
from typing import Any

from pymongo.asynchronous import mongo_client, pool, topology

WAIT = "_async_cond_wait"
CHECKOUT = "_ClientCheckout"
handle_error = getattr(mongo_client, CHECKOUT).handle
"""PyMongo's own method: reports the error that ended an operation to the client."""


async def wait_in_place(condition: Any, timeout: float | None) -> bool:  # noqa: ANN401, ASYNC109 - PyMongo's signature
    """Return whether the condition was notified in time."""
    try:
        async with asyncio.timeout(timeout):
            return bool(await condition.wait())
    except TimeoutError:
        return False


async def discard_session_and_handle(
    checkout: Any,  # noqa: ANN401 - private
    exc_type: type[BaseException] | None,
    exc_val: BaseException | None,
) -> None:
    """Handle the error that ended an operation, and discard the session of a cancelled one instead of reusing it."""
    if isinstance(exc_val, asyncio.CancelledError) and checkout.session:
        checkout.session._server_session.mark_dirty()  # noqa: SLF001 - as for a connection that fails
    await handle_error(checkout, exc_type, exc_val)


def patch_client() -> None:
    """Discard the sessions of cancelled operations; on Python 3.11, wait in the task of the caller."""
    setattr(getattr(mongo_client, CHECKOUT), handle_error.__name__, discard_session_and_handle)
    if sys.version_info < (3, 12):
        for module in (pool, topology):
            assert hasattr(module, WAIT)  # noqa: S101 - a PyMongo that waits in another way needs a new review
            setattr(module, WAIT, wait_in_place)

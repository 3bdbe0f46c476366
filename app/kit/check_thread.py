"""One thread for checks that take too long for the event loop.

Threads compete for the interpreter. With a single one, the event loop waits for at most a switch interval,
however many requests need a check.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

CHECKS = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checks")
CHECKS_PER_CALLER = 2
"""The number of checks that one caller can have in the queue; its other checks wait outside."""

_callers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()


async def in_check_thread(
    check: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Run a check in the thread, after the checks before it."""
    return await asyncio.get_running_loop().run_in_executor(CHECKS, partial(check, *args, **kwargs))


async def in_check_thread_for(
    caller: str, check: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Run a check in the thread for a caller, who cannot fill the queue."""
    room = _callers.get(caller)
    if room is None:
        room = _callers[caller] = asyncio.Semaphore(CHECKS_PER_CALLER)
    async with room:
        return await in_check_thread(check, *args, **kwargs)

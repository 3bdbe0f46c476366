"""One thread for checks that take too long for the event loop.

There is only one, because threads compete for the interpreter: with one, the event loop waits for it for at most a
switch interval (5 ms), however many requests have something to check.
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
"""How many checks of one caller are queued: its others wait behind these, not before those of other callers."""

_callers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()


async def in_check_thread(
    check: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """The result of a check, made in the thread; checks take their turns."""
    return await asyncio.get_running_loop().run_in_executor(CHECKS, partial(check, *args, **kwargs))


async def in_check_thread_for(
    caller: str, check: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """The result of a check for a caller, who cannot fill the queue."""
    room = _callers.get(caller)
    if room is None:
        room = _callers[caller] = asyncio.Semaphore(CHECKS_PER_CALLER)
    async with room:
        return await in_check_thread(check, *args, **kwargs)

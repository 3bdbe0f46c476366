"""Running a command, and the options that commands share."""

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

ResultType = TypeVar("ResultType")

Url = Annotated[str, typer.Option("--url", envvar="DYNAMIC_AGENTS_URL", help="The server's address.")]
Key = Annotated[
    str | None, typer.Option("--key", envvar="DYNAMIC_AGENTS_KEY", help="An API key with the required role.")
]
DEFAULT_URL = "http://127.0.0.1:8000"
OBJECTS_A_COLLECTION = 10_000
"""The number of new objects after which the garbage collector looks for cycles among them."""


def run(work: Coroutine[Any, Any, ResultType]) -> ResultType:
    """Run a coroutine to its end on the fastest event loop available.

    Imported objects live until the process ends, so they are frozen: the garbage collector would need 0.2 s to visit
    them. A run creates many objects and frees nearly all of them when it ends; with the default threshold, the
    collector would visit them a dozen times.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS_A_COLLECTION)
    gc.enable()
    try:
        if sys.platform == "win32":
            return asyncio.run(work)
        return run_on_uvloop(to_its_end(work))
    except KeyboardInterrupt:
        work.close()
        raise typer.Exit(128 + signal.SIGINT) from None


def run_on_uvloop(work: Coroutine[Any, Any, ResultType]) -> ResultType:
    """Run a coroutine on uvloop, which does not exist on Windows; Ctrl-C cancels it."""
    import uvloop  # noqa: PLC0415 - does not exist on Windows

    try:
        raise_on_interrupt()
        return uvloop.run(work)
    finally:
        work.close()  # an interrupt before its first step leaves it unawaited


async def to_its_end(work: Coroutine[Any, Any, ResultType]) -> ResultType:
    """Do the work; from its end on, a signal ends the process."""
    try:
        return await work
    finally:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        end_on_interrupt()


def end_on_interrupt() -> None:
    """Let Ctrl-C end the process without an exception, while there is nothing to clean up.

    Raised in an import or in the end of the interpreter, the exception would be printed with a traceback.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt`, which cancels the work."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def finish(succeeded: bool) -> None:
    """Exit with 0 on success, otherwise with 1."""
    raise typer.Exit(0 if succeeded else 1)

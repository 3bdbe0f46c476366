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
        import uvloop  # noqa: PLC0415 - does not exist on Windows

        return uvloop.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None


def finish(succeeded: bool) -> None:
    """Exit with 0 on success, otherwise with 1."""
    raise typer.Exit(0 if succeeded else 1)

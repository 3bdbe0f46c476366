"""Commands that start a run on a service and follow it on the terminal."""

import asyncio
import json
import shlex
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.text import Text

from app.cli.client import RequestRefused, ServiceClient, service_client
from app.cli.progress import print_event, print_outcome
from app.errors import StartupError
from app.kit.json_values import JsonObject
from app.server.console import run_console

NAME = "dynamic-agents"


def program() -> str:
    """Return how the person calls this command: by its name if the shell finds it, else by the path they used."""
    called = Path(sys.argv[0])
    if called.name != NAME or shutil.which(NAME) == shutil.which(str(called)):
        return NAME
    return shlex.quote(str(called))


def read_schema(path: Path) -> JsonObject:
    """Return the JSON Schema in a file; the server checks it.

    Raises:
        StartupError: the file does not contain a JSON object.
    """
    try:
        schema = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StartupError(f"--output-schema: {path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise StartupError(f"--output-schema: {path} does not contain a JSON object.")
    return cast("JsonObject", schema)


async def follow_run(client: ServiceClient, console: Console, kind: str, target: str, body: JsonObject) -> bool:
    """Start a run, print its events as they arrive and its outcome, and return whether it completed.

    Raises:
        RequestRefused: the service refuses the run, or is unavailable.
    """
    return await watch(client, console, await start(client, console, kind, target, body))


async def start(client: ServiceClient, console: Console, kind: str, target: str, body: JsonObject) -> str:
    """Start a run, print its id, and return it.

    Raises:
        RequestRefused: the service refuses the run, or is unavailable.
    """
    accepted = await client.start_run(kind, target, body)
    execution_id: str = accepted["executionId"]
    console.print(Text(f"Execution {execution_id}: {accepted['status']}", style="dim"))
    return execution_id


async def watch(client: ServiceClient, console: Console, execution_id: str) -> bool:
    """Print an execution's events as they arrive, then its outcome, and return whether it completed.

    Raises:
        RequestRefused: the service refuses, or is unavailable.
    """
    try:
        async for message in client.follow(execution_id):
            if "seq" in message:
                print_event(console, message)
    except asyncio.CancelledError:
        console.print(
            f"\nStopped watching: the run continues on {client.url}.\n"
            f"Follow it:  {program()} follow {execution_id} --url {client.url}\n"
            f"Cancel it:  {program()} cancel {execution_id} --url {client.url}",
            soft_wrap=True,
        )
        raise
    execution = await client.get(f"/api/v1/executions/{execution_id}")
    print_outcome(console, execution, await client.get(f"/api/v1/executions/{execution_id}/tree"))
    return execution["status"] == "completed"


async def run_on_server(url: str, key: str | None, kind: str, target: str, body: JsonObject) -> bool:
    """Start a run on the server at `url`, follow it, and return whether it completed.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    async with server_at(url, key) as client:
        return await follow_run(client, run_console(), kind, target, body)


async def follow_on_server(url: str, key: str | None, execution_id: str) -> bool:
    """Follow an execution on the server at `url` from its first event to its end; return whether it completed.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    async with server_at(url, key) as client:
        await client.get(
            f"/api/v1/executions/{quote(execution_id, safe='')}"
        )  # fails at once if the execution is unknown
        return await watch(client, run_console(), execution_id)


async def cancel_on_server(url: str, key: str | None, execution_id: str) -> None:
    """Cancel an execution, with all executions of its run.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    async with server_at(url, key) as client:
        await client.post(f"/api/v1/executions/{quote(execution_id, safe='')}/cancel", {})
    run_console().print(f"Execution {execution_id} is cancelled.")


@asynccontextmanager
async def server_at(url: str, key: str | None) -> AsyncGenerator[ServiceClient]:
    """Open a client of the server at `url`; an error response ends the command with the service's message.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request.
    """
    try:
        async with service_client(url, key) as client:
            yield client
    except RequestRefused as error:
        raise StartupError(str(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StartupError(
            f"No service answers at {url} ({type(error).__name__}). Start one with 'make serve', or pass its "
            "address with --url or DYNAMIC_AGENTS_URL."
        ) from None

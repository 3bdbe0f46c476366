"""Starting a run on a service and following it on the terminal."""

import httpx
from rich.console import Console
from rich.text import Text

from app.errors import StartupError
from app.models.json_values import JsonObject
from app.terminal.client import RequestRefused, ServiceClient, service_client
from app.terminal.progress import print_event, print_outcome, run_console


async def follow_run(client: ServiceClient, console: Console, kind: str, target: str, body: JsonObject) -> bool:
    """Start a run, print its events as they arrive and its outcome; whether it completed.

    Raises:
        RequestRefused: the service refuses the run, or stays away.
    """
    accepted = await client.start_run(kind, target, body)
    execution_id = accepted["executionId"]
    console.print(Text(f"Execution {execution_id}: {accepted['status']}", style="dim"))
    async for message in client.follow(execution_id):
        if "seq" in message:
            print_event(console, message)
    execution = await client.get(f"/api/v1/executions/{execution_id}")
    print_outcome(console, execution, await client.get(f"/api/v1/executions/{execution_id}/tree"))
    return execution["status"] == "completed"


async def run_on_server(url: str, key: str | None, kind: str, target: str, body: JsonObject) -> bool:
    """Start a run on the server at `url` and follow it; whether it completed.

    Raises:
        StartupError: there is no service at `url`, or it refuses; the message is its own.
    """
    try:
        async with service_client(url, key) as client:
            return await follow_run(client, run_console(), kind, target, body)
    except RequestRefused as error:
        raise StartupError(str(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StartupError(
            f"No service answers at {url} ({type(error).__name__}). Start one with 'make serve'."
        ) from None

"""`dynamic-agents tool test`: calls a tool on a server and prints its log, output, duration and memory."""

import json
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.text import Text

from app.cli.client import RequestRefused, service_client
from app.cli.progress import plain
from app.errors import StartupError
from app.kit.json_values import JsonObject
from app.server.console import run_console


async def try_tool(url: str, key: str | None, name: str, tool_input: str) -> bool:
    """Call a tool on the server at `url`, print the outcome, and return whether the tool succeeded.

    Raises:
        StartupError: the input is not JSON, there is no service, or it refuses; the message is the service's.
    """
    try:
        body: JsonObject = {"input": json.loads(tool_input)}
    except (ValueError, RecursionError) as error:
        raise StartupError(f"--input is not JSON: {error}.") from None
    try:
        async with service_client(url, key) as client:
            tried = await client.post(f"/api/v1/custom-tools/{quote(name, safe='')}/test", body)
    except RequestRefused as error:
        raise StartupError(str(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StartupError(f"No service answers at {url} ({type(error).__name__}).") from None
    print_trial(run_console(), tried)
    return "error" not in tried


def print_trial(console: Console, tried: JsonObject) -> None:
    """Print the console lines, the output or the error, the duration and the memory."""
    for line in tried["console"]:
        console.print(Text(f"console: {plain(line)}", style="dim"))
    if error := tried.get("error"):
        console.print(Text(f"{error['code']}: {plain(error['message'])}", style="red"))
    else:
        console.print(Text(json.dumps(tried["output"], indent=2, ensure_ascii=True)))
    memory = tried.get("memoryBytes")
    held = "" if not memory else f", {memory / 2**20:.1f} MiB"
    console.print(Text(f"{tried['durationMs']:.1f} ms{held}", style="dim"))

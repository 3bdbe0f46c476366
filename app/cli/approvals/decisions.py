"""`dynamic-agents approvals`: list and decide on the tool calls that are waiting for approval on a server."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.client import ServiceClient
from app.cli.progress import compact, plain
from app.cli.run_following import server_at
from app.errors import StartupError
from app.kit.json_values import JsonObject
from app.server.console import run_console

APPROVALS = "/api/v1/approvals"
DONE = {"approved": "Approved: the call is made with this input.", "declined": "Declined: the call is not made."}


async def print_approvals(url: str, key: str | None, status: str, project: str | None) -> None:
    """Print a table of the approvals with this status on the server at `url`, oldest first.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    query = {"status": status, "limit": "200", "sort": "requestedAt"} | ({"project": project} if project else {})
    approvals: list[JsonObject] = []
    async with server_at(url, key) as client:
        cursor: str | None = ""
        while cursor is not None:
            page = await client.get(f"{APPROVALS}?{urlencode(query | ({'cursor': cursor} if cursor else {}))}")
            approvals += page["items"]
            cursor = page["nextCursor"]
    console = run_console()
    if not approvals:
        console.print(f"No approval is {status}.")
        return
    print_table(console, approvals)


def print_table(console: Console, approvals: list[JsonObject]) -> None:
    """Print approvals as a table: ids can be copied at any width, and inputs take the room that is left."""
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("id", no_wrap=True)
    for heading in ("requested", "agent", "tool"):
        table.add_column(heading, overflow="fold")
    table.add_column("input", no_wrap=True, overflow="ellipsis", ratio=1)
    for one in approvals:
        requested = one["requestedAt"][:19].replace("T", " ")
        cells = (one["id"], requested, one["agent"], one["toolName"], compact(one["input"]))
        table.add_row(*(Text(plain(cell)) for cell in cells))
    console.print(table)


async def print_approval(url: str, key: str | None, approval_id: str) -> None:
    """Print one approval with its exact input, and what its run is about.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    async with server_at(url, key) as client:
        await show(client, run_console(), await read(client, approval_id))


async def decide(
    url: str,
    key: str | None,
    approval_id: str,
    decision: str,
    *,
    edited_input: JsonObject | None = None,
    edit: bool = False,
    message: str | None = None,
    confirmed: bool = False,
) -> bool:
    """Show a tool call, approve or decline exactly that one, and return whether the person confirmed.

    With `edit`, the input opens in an editor first.

    Raises:
        StartupError: there is no service at `url`, it refuses, or the edited text is not a JSON object.
    """
    console = run_console()
    async with server_at(url, key) as client:
        approval = await read(client, approval_id)
        await show(client, console, approval)
        is_pending = approval["status"] == "pending"  # otherwise the error says who decided
        if edit and is_pending:
            edited_input = edited(approval["input"])
        if edited_input is not None:
            console.print(Text(f"\nEdited input\n{indented(edited_input)}"))
        if is_pending and not confirmed and not confirm(f"\n{decision.capitalize()} this call?"):
            return False
        body: JsonObject = {"decision": decision, "inputDigest": approval["inputDigest"]}
        body |= {"input": edited_input} if edited_input is not None else {}
        body |= {"message": message} if message else {}
        decided = await client.post(f"{APPROVALS}/{quote(approval_id, safe='')}/decision", body)
    console.print(DONE[decided["status"]])
    return True


def confirm(question: str) -> bool:
    """Ask a yes-or-no question in the terminal.

    Raises:
        StartupError: there is no terminal, and no input that answers.
    """
    try:
        return typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise StartupError("No terminal to confirm in. Add --yes to decide without confirmation.") from None


async def read(client: ServiceClient, approval_id: str) -> JsonObject:
    """Return an approval."""
    return await client.get(f"{APPROVALS}/{quote(approval_id, safe='')}")


async def show(client: ServiceClient, console: Console, approval: JsonObject) -> None:
    """Print an approval: its agent, its run, the call and the exact input."""
    root = await client.get(f"/api/v1/executions/{quote(approval['rootExecutionId'], safe='')}?omit=output,runState")
    version = f" {approval['toolVersion']}" if approval["toolVersion"] else ""
    lines = {
        "approval": f"{approval['id']}, {approval['status']}",
        "run": f"{approval['rootExecutionId']}: {root['prompt'][:200]}",
        "agent": f"{approval['agent']} of {approval['department']}",
        "tool": f"{approval['toolName']}{version}",
        "expires": approval["expiresAt"],
    }
    decided = approval["decidedBy"]
    lines |= {"decided by": f"{decided['name']} at {approval['decidedAt']}"} if decided else {}
    lines |= {"message": approval["message"]} if approval["message"] else {}
    for name, value in lines.items():
        console.print(Text(f"{name:<11} {plain(str(value))}"), soft_wrap=True)
    console.print(Text(f"\nInput\n{indented(approval['input'])}"), soft_wrap=True)
    if approval["editedInput"] is not None:
        console.print(Text(f"\nEdited input\n{indented(approval['editedInput'])}"), soft_wrap=True)


def edited(value: JsonObject) -> JsonObject:
    """Open an input in the terminal's editor, and return the edited value.

    Raises:
        StartupError: the editor failed, or the text is not a JSON object.
    """
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="approval-") as folder:
        path = Path(folder) / "input.json"
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        try:
            subprocess.run([*editor, str(path)], check=True)  # noqa: S603 - the editor that the person has chosen
        except (OSError, subprocess.CalledProcessError) as error:
            raise StartupError(
                f"The editor {editor[0]!r} failed ({type(error).__name__}). Set EDITOR to another editor."
            ) from None
        return parse_input(path.read_text())


def parse_input(text: str) -> JsonObject:
    """Return the JSON object in a text.

    Raises:
        StartupError: the text is not a JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StartupError(f"The input is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise StartupError("The input must be a JSON object.")
    return value


def indented(value: JsonObject) -> str:
    """Format an input as lines of JSON; characters that could change the terminal are escaped."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return "\n".join(map(plain, lines))

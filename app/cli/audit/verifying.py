"""Verification of the audit log on the command line, in the database or in an export."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import orjson

from app.cli.progress import counted
from app.database.collections import collection_of
from app.database.opening import open_database
from app.errors import StartupError
from app.events.archive.reader import Archives
from app.kit.json_values import JsonObject
from app.models.audit import AuditMark
from app.server.console import run_console
from app.services.audit.chain import BadEntry, Head, check_entries, parse_head
from app.services.audit.head_notes import FILE_NAME, last_noted
from app.services.audit.verification import AuditVerifier, Verification, differs_from_noted, missing_end
from app.settings import Settings

LINES_AT_ONCE = 1000
MAX_COUNTED = 1000
"""The maximum number of changes without an entry to count."""


async def verify_database(settings: Settings, heads: list[str]) -> bool:
    """Verify the log in the database and print the result; return whether everything matches.

    Raises:
        StartupError: the database cannot be opened, or a head is invalid.
    """
    noted = parsed_heads(heads)
    if own := last_noted(settings.data_dir / FILE_NAME):
        noted.append(own)
    async with open_database(settings, share=True) as database:
        found = await AuditVerifier(database, Archives.under(settings.data_dir)).verify(noted)
        pending = await collection_of(database, AuditMark).count_documents({}, limit=MAX_COUNTED)
    print_result(found, with_trees=True)
    if pending:
        print_pending(pending)
    return found.bad is None


def verify_export(file: Path, heads: list[str]) -> bool:
    """Verify the entries in a file of JSON lines and print the result; return whether they match.

    Raises:
        StartupError: the file cannot be read, or a head is invalid.
    """
    noted, head, bad = parsed_heads(heads), Head(), None
    try:
        lines = entries_in(file)
        while bad is None and (some := list(islice(lines, LINES_AT_ONCE))):
            before = head
            head, bad = check_entries(before, some)
            bad = differs_from_noted(some[: head.seq - before.seq], noted) or bad
    except OSError as error:
        raise StartupError(f"{file} cannot be read ({type(error).__name__}).") from None
    bad = bad or missing_end(head, noted)
    print_result(Verification(head.seq, 0, bad, head), with_trees=False)
    return bad is None


def entries_in(file: Path) -> Iterator[JsonObject]:
    """Yield the entries in the lines of a file; a line that is not a JSON object yields an entry without fields.

    Raises:
        OSError: the file cannot be read.
    """
    with sys.stdin.buffer if str(file) == "-" else file.open("rb") as lines:
        for line in lines:
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                entry = None
            yield entry if isinstance(entry, dict) else {}


def parsed_heads(heads: list[str]) -> list[Head]:
    """Parse heads in the form `SEQ:HASH`.

    Raises:
        StartupError: one is invalid.
    """
    found: list[Head] = []
    for text in heads:
        head = parse_head(text)
        if head is None:
            raise StartupError("--head must be SEQ:HASH, such as a line of DATA_DIR/audit-heads without its time.")
        found.append(head)
    return found


def print_result(found: Verification, *, with_trees: bool) -> None:
    """Print the result of a verification, and the head to note."""
    console = run_console()
    runs = f" and the events of {counted(found.trees, 'run')}" if with_trees else ""
    checked = f"{counted(found.checked, 'entry', 'entries')}{runs}"
    if found.bad is None:
        console.print(f"The audit log matches: {checked} checked.", highlight=False)
    else:
        where = f"entry {found.bad.seq}" if isinstance(found.bad, BadEntry) else f"run {found.bad.root_id}"
        text = f"The audit log does not match at {where}: {found.bad.reason}."
        console.print(text, style="bold red", highlight=False, markup=False, soft_wrap=True)
        console.print(f"{checked} checked before it.", highlight=False)
    console.print(f"Head: {found.head}", highlight=False, soft_wrap=True)


def print_pending(count: int) -> None:
    """Print how many changes have no entry yet."""
    least = "At least " if count == MAX_COUNTED else ""
    text = f"{least}{counted(count, 'change')} without an entry yet: a running service appends entries within seconds."
    run_console().print(text, highlight=False, soft_wrap=True)

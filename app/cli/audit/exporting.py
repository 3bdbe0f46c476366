"""Export of the audit log as JSON lines."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

import orjson

from app.database.opening import open_database
from app.errors import StartupError
from app.server.console import run_console
from app.services.audit.queries import AuditQueries
from app.settings import Settings


async def export_entries(settings: Settings, output: Path | None) -> None:
    """Write all entries, one per line, to a file or standard output. A file is replaced only once the new one is
    complete.

    Raises:
        StartupError: the database cannot be opened, or the file cannot be written.
    """
    if output is None:
        await write_entries(settings, sys.stdout.buffer)
        return
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb") as file:
            count = await write_entries(settings, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(output)
    except OSError as error:
        raise StartupError(f"--output: {output} cannot be written ({type(error).__name__}).") from None
    finally:
        partial.unlink(missing_ok=True)
    run_console().print(f"{count} entries in {output}.", highlight=False, soft_wrap=True)


async def write_entries(settings: Settings, file: BinaryIO) -> int:
    """Write all entries to an open file; return their number.

    Raises:
        StartupError: the database cannot be opened.
    """
    count = 0
    async with open_database(settings, share=True) as database:
        async for entry in AuditQueries(database).export():
            file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count

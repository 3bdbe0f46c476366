"""The options of `dynamic-agents audit`."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.running import finish, run

audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)


@audit_app.command("verify")
def verify_log(
    file: Annotated[
        Path | None,
        typer.Argument(help="An export to check without the database; `-` reads it from standard input."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option("--head", help="A head recorded earlier, as SEQ:HASH; the log must still contain it."),
    ] = None,
) -> None:
    """Check every entry, and the stored events of every run that has ended.

    Exits with 0 if everything matches; otherwise names the first entry or run that does not, and exits with 1. Besides
    the heads given, the last one in DATA_DIR/audit-heads must match.
    """
    from app.cli.audit.verifying import verify_database, verify_export  # noqa: PLC0415 - heavy, see app/cli/main.py
    from app.cli.main import load_settings  # noqa: PLC0415 - imports this module

    heads = head or []
    if file is not None:
        finish(verify_export(file, heads))
    finish(run(verify_database(load_settings(log_level="error"), heads)))


@audit_app.command("export")
def export_log(
    output: Annotated[
        Path | None, typer.Option("--output", help="The file to write; standard output by default.", dir_okay=False)
    ] = None,
) -> None:
    """Write all entries as JSON lines, which `audit verify FILE` checks without the database."""
    from app.cli.audit.exporting import export_entries  # noqa: PLC0415 - heavy, see app/cli/main.py
    from app.cli.main import load_settings  # noqa: PLC0415 - imports this module

    run(export_entries(load_settings(log_level="error"), output))

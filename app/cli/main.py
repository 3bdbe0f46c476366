"""The `dynamic-agents` command.

Commands import what they need when they run: LiteLLM's import takes seconds, and `--help` must not.
"""

import asyncio
import gc
import os
import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.approvals.commands import approvals_app
from app.cli.audit.commands import audit_app
from app.cli.running import DEFAULT_URL, Key, Url, end_on_interrupt, finish, run
from app.errors import StartupError

if TYPE_CHECKING:
    from app.settings import Settings

app = typer.Typer(
    name="dynamic-agents",
    help="Run AI agents that live in a MongoDB database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help="Start a run on a server and follow it live.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(run_app, name="run")
app.add_typer(keys_app, name="keys")
tool_app = typer.Typer(help="Custom tools.", no_args_is_help=True)
app.add_typer(tool_app, name="tool")

budgets_app = typer.Typer(help="Manage limits on tokens and cost on a server.", no_args_is_help=True)
app.add_typer(budgets_app, name="budgets")
app.add_typer(approvals_app, name="approvals")
app.add_typer(audit_app, name="audit")


def print_version(wanted: bool) -> None:
    """Print the installed version and exit, if requested."""
    if wanted:
        typer.echo(metadata.version("dynamic-agents"))
        raise typer.Exit


Project = Annotated[str, typer.Option("--project", help="The CMS project's id (24 hexadecimal characters).")]
Prompt = Annotated[str, typer.Option("--prompt", help="The request.")]
OutputSchema = Annotated[
    Path | None,
    typer.Option(
        "--output-schema", help="A file with the JSON Schema of the data to return.", exists=True, dir_okay=False
    ),
]


@app.callback()
def common_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Run AI agents that live in a MongoDB database."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None,
) -> None:
    """Serve the API, with an embedded database unless one is configured."""
    settings = load_settings(host=host, port=port)
    from app.server.serve import serve_until_stopped  # noqa: PLC0415 - heavy, see the module's docstring

    run(serve_until_stopped(settings))


@app.command()
def worker(
    host: Annotated[
        str | None, typer.Option(help="The address that serves /healthz and /readyz; overrides HOST.")
    ] = None,
    port: Annotated[int, typer.Option(help="The port for /healthz and /readyz; 0 picks a free one.")] = 0,
) -> None:
    """Execute runs that other processes accept, with the same MONGODB_URI and REDIS_URL."""
    settings = load_settings(host=host, port=port)
    from app.server.serve import work_until_stopped  # noqa: PLC0415 - heavy, see the module's docstring

    run(work_until_stopped(settings))


@app.command()
def demo() -> None:
    """Run the Story department on a sample request, with everything embedded and the offline demo model."""
    settings = load_settings(log_level="warning")
    from app.cli.demo import run_demo  # noqa: PLC0415 - heavy, see the module's docstring
    from app.server.console import run_console  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(run_demo(settings, run_console())))


@app.command()
def seed(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder with the layout of seeds/; seeds/ by default.")
    ] = None,
) -> None:
    """Insert missing seeds, and update the stored documents that differ from their seed."""
    settings = load_settings(log_level="warning")
    from app.cli.catalog import seed_database  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(seed_database(settings, folder)))


@run_app.command("agent")
def run_agent(
    agent_id: str,
    project: Project,
    prompt: Prompt,
    output_schema: OutputSchema = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Run one agent and follow it."""
    start_and_follow("agent", agent_id, project, prompt, url, key, output_schema)


@run_app.command("department")
def run_department(
    slug: str,
    project: Project,
    prompt: Prompt,
    output_schema: OutputSchema = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Run a department and follow it."""
    start_and_follow("department", slug, project, prompt, url, key, output_schema)


@run_app.command("all")
def run_all(
    project: Project,
    prompt: Prompt,
    department: Annotated[
        list[str] | None,
        typer.Option("--department", help="A department to run; repeatable. All active departments by default."),
    ] = None,
    output_schema: OutputSchema = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Run several departments in order of priority, combine their reports, and follow the run."""
    chosen = {"departments": department} if department else {}
    start_and_follow("orchestration", "", project, prompt, url, key, output_schema, **chosen)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Option("--name", help="The purpose of the key.")],
    role: Annotated[Literal["viewer", "runner", "admin"], typer.Option("--role", help="The permissions of the key.")],
    project: Annotated[
        list[str] | None,
        typer.Option("--project", help="A project that the key is limited to; repeatable. All projects by default."),
    ] = None,
) -> None:
    """Create an API key and print it; it cannot be shown again."""
    settings = load_settings(log_level="warning")
    from app.cli.catalog import print_new_key  # noqa: PLC0415 - heavy, see the module's docstring

    run(print_new_key(settings, name, role, project))


@keys_app.command("list")
def list_keys() -> None:
    """List the API keys, without their secrets."""
    settings = load_settings(log_level="warning")
    from app.cli.catalog import print_keys  # noqa: PLC0415 - heavy, see the module's docstring

    run(print_keys(settings))


@keys_app.command("revoke")
def revoke_api_key(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke an API key; every process refuses it within five seconds."""
    settings = load_settings(log_level="warning")
    from app.cli.catalog import revoke_key  # noqa: PLC0415 - heavy, see the module's docstring

    run(revoke_key(settings, key_id))


@tool_app.command("test")
def try_tool_on_server(
    name: str,
    tool_input: Annotated[str, typer.Option("--input", help="The tool's input, as JSON.")] = "{}",
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Call a tool on a server once, and print its log, output, duration and memory. Requires an admin key."""
    from app.cli.tool_test import try_tool  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(try_tool(url, key, name, tool_input)))


Scope = Annotated[
    str, typer.Argument(help="`global`, `project:ID`, `department:SLUG`, `agent:AGENT_ID` or `key:KEY_ID`.")
]


@budgets_app.command("list")
def list_budgets(url: Url = DEFAULT_URL, key: Key = None) -> None:
    """List the budgets and their usage. Requires an admin key."""
    from app.cli.budgets import print_budgets  # noqa: PLC0415 - heavy, see the module's docstring

    run(print_budgets(url, key))


@budgets_app.command("set")
def set_budget(
    scope: Scope,
    period: Annotated[Literal["day", "month", "total"], typer.Option("--period", help="How often the budget resets.")],
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="The maximum number of tokens per period.")
    ] = None,
    max_cost_usd: Annotated[
        float | None, typer.Option("--max-cost-usd", help="The maximum cost per period, in US dollars.")
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="The time zone in which days and months begin.")] = "UTC",
    alert_at: Annotated[
        float, typer.Option("--alert-at", help="The used share of the limit at which to alert, 0 to 1.")
    ] = 0.8,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Set the limits of a scope, keeping its usage so far. Requires an admin key."""
    from app.cli.budgets import put_budget  # noqa: PLC0415 - heavy, see the module's docstring

    limits = {"maxTokens": max_tokens, "maxCostUsd": max_cost_usd}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given:
        raise StartupError("Set --max-tokens, --max-cost-usd or both: a budget without a limit limits nothing.")
    run(put_budget(url, key, scope, {**given, "period": period, "timezone": timezone, "alertAt": alert_at}))


@budgets_app.command("delete")
def delete_budget(scope: Scope, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Delete a budget and its usage count. Requires an admin key."""
    from app.cli.budgets import remove_budget  # noqa: PLC0415 - heavy, see the module's docstring

    run(remove_budget(url, key, scope))


@app.command()
def doctor(
    probe: Annotated[
        bool, typer.Option(help="Make small real calls to each model, and show which features work.")
    ] = False,
) -> None:
    """Check the database, Redis, the tools and each configured model, and report the problems."""
    settings = load_settings(log_level="error")
    from app.cli.doctor import print_findings  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(print_findings(settings, probe=probe)))


@app.command()
def usage(
    group_by: Annotated[
        Literal["day", "department", "agent", "model", "purpose", "project", "apiKey", "tag"],
        typer.Option("--group-by", help="The dimension of the rows."),
    ] = "department",
    project: Annotated[str | None, typer.Option("--project", help="The CMS project's id.")] = None,
    department: Annotated[str | None, typer.Option("--department", help="The department's slug.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="The agent's id.")] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", help="The id of the API key that started the runs, as in `keys list`.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A tag of the runs.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Include calls from this date or full hour (UTC), such as 2026-01-31.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Include calls before this date or full hour (UTC).")] = None,
) -> None:
    """Show the tokens and the cost of model calls, and the savings of the response cache."""
    settings = load_settings(log_level="warning")
    from app.cli.usage import UsageOptions, print_usage  # noqa: PLC0415 - heavy, see the module's docstring

    options = UsageOptions(group_by, project, department, agent, api_key, tag, start, end)
    run(print_usage(settings, options))


@app.command()
def archive(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", help="How long ago a run ended, such as 90d or 12h. Default: EXECUTION_RETENTION_DAYS."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be archived.")] = False,
) -> None:
    """Archive old runs now: their events, prompts and outputs move from the database to DATA_DIR/archive."""
    settings = load_settings(log_level="warning")
    from app.cli.retention.archive import archive_old_runs  # noqa: PLC0415 - heavy, see the module's docstring

    run(archive_old_runs(settings, older_than, dry_run=dry_run))


def start_and_follow(
    kind: str,
    target: str,
    project: str,
    prompt: str,
    url: str,
    key: str | None,
    output_schema: Path | None,
    **body: list[str],
) -> None:
    """Start a run on a server and follow it on the terminal."""
    from app.cli.run_following import read_schema, run_on_server  # noqa: PLC0415 - heavy, see the module's docstring

    schema = {} if output_schema is None else {"outputSchema": read_schema(output_schema)}
    finish(run(run_on_server(url, key, kind, target, {"prompt": prompt, "project": project, **body, **schema})))


@app.command()
def follow(execution_id: str, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Follow an execution on a server, from its first event to its end."""
    from app.cli.run_following import follow_on_server  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(follow_on_server(url, key, execution_id)))


@app.command()
def cancel(execution_id: str, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Cancel an execution on a server, with all executions of its run."""
    from app.cli.run_following import cancel_on_server  # noqa: PLC0415 - heavy, see the module's docstring

    run(cancel_on_server(url, key, execution_id))


def load_settings(**overrides: Any) -> "Settings":  # noqa: ANN401 - any setting
    """Load the settings and configure logging with them."""
    from structlog import get_logger  # noqa: PLC0415 - heavy, see the module's docstring

    from app.logs import configure_logging  # noqa: PLC0415 - heavy, see the module's docstring
    from app.settings import Settings  # noqa: PLC0415 - heavy, see the module's docstring

    settings = Settings.load(**overrides)
    configure_logging(settings.log_format, settings.log_level)
    for variable in Settings.misspelled():
        get_logger(__name__).warning("unknown-setting", variable=variable.name, likely=variable.likely)
    return settings


def main() -> None:
    """Run the command; an expected failure prints one line to stderr and exits with 1.

    The garbage collector is off until the work begins: imports create little garbage, and collecting during them takes
    a second.
    """
    gc.disable()
    end_on_interrupt()
    try:
        app()
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    except StartupError as error:
        print(f"dynamic-agents: {error}", file=sys.stderr)  # noqa: T201 - the command's output
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(128 + signal.SIGPIPE)
    finally:
        leave_closed_pipe()


def leave_closed_pipe() -> None:
    """Discard the remaining output if the reader has left, as in `dynamic-agents doctor | head -3`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

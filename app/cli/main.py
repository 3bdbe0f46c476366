"""The `dynamic-agents` command.

Commands import what they need when they run: LiteLLM's import takes seconds, and `--help` must not.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from app.errors import StartupError

if TYPE_CHECKING:
    from app.settings import Settings

ResultType = TypeVar("ResultType")

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


def print_version(wanted: bool) -> None:
    """Print the installed version and leave, where it is asked for."""
    if wanted:
        typer.echo(metadata.version("dynamic-agents"))
        raise typer.Exit


Url = Annotated[str, typer.Option("--url", envvar="DYNAMIC_AGENTS_URL", help="The server's address.")]
Key = Annotated[
    str | None, typer.Option("--key", envvar="DYNAMIC_AGENTS_KEY", help="An API key with the role that is needed.")
]
Project = Annotated[str, typer.Option("--project", help="The CMS project's id (24 hexadecimal characters).")]
Prompt = Annotated[str, typer.Option("--prompt", help="What is asked.")]
DEFAULT_URL = "http://127.0.0.1:8000"
OBJECTS_A_COLLECTION = 10_000
"""How many more objects than before the garbage collector lets be made until it looks for circles among them."""


@app.callback()
def common_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Run AI agents that live in a MongoDB database."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides PORT.")] = None,
) -> None:
    """Serve the API; embedded where nothing else is configured."""
    settings = load_settings(host=host, port=port)
    from app.server.serve import serve_until_stopped  # noqa: PLC0415 - heavy, see the module's docstring

    run(serve_until_stopped(settings))


@app.command()
def worker(
    host: Annotated[str | None, typer.Option(help="Where it answers /healthz and /readyz; overrides HOST.")] = None,
    port: Annotated[int, typer.Option(help="The port for that; 0 is a free one.")] = 0,
) -> None:
    """Run what other processes accept, on the same MONGODB_URI and REDIS_URL."""
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
        Path | None, typer.Argument(help="A folder in the form of seeds/; by default seeds/ itself.")
    ] = None,
) -> None:
    """Insert the seeds that are missing, and give what is stored the fields that its seed names."""
    settings = load_settings(log_level="warning")
    from app.cli.catalog import seed_database  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(seed_database(settings, folder)))


@run_app.command("agent")
def run_agent(agent_id: str, project: Project, prompt: Prompt, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Run one agent and follow it."""
    start_and_follow("agent", agent_id, project, prompt, url, key)


@run_app.command("department")
def run_department(slug: str, project: Project, prompt: Prompt, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Run a department and follow it."""
    start_and_follow("department", slug, project, prompt, url, key)


@run_app.command("all")
def run_all(
    project: Project,
    prompt: Prompt,
    department: Annotated[
        list[str] | None, typer.Option("--department", help="One to run; repeat it. All active ones without it.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Run several departments in the order of their priority, make one result of it, and follow it."""
    chosen = {"departments": department} if department else {}
    start_and_follow("orchestration", "", project, prompt, url, key, **chosen)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Option("--name", help="What the key is for.")],
    role: Annotated[Literal["viewer", "runner", "admin"], typer.Option("--role", help="What it may do.")],
) -> None:
    """Make an API key and print it, this once."""
    settings = load_settings(log_level="warning")
    from app.cli.catalog import print_new_key  # noqa: PLC0415 - heavy, see the module's docstring

    run(print_new_key(settings, name, role))


@keys_app.command("list")
def list_keys() -> None:
    """List the API keys, without their texts."""
    settings = load_settings(log_level="warning")
    from app.cli.catalog import print_keys  # noqa: PLC0415 - heavy, see the module's docstring

    run(print_keys(settings))


@keys_app.command("revoke")
def revoke_api_key(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke an API key: no process accepts it five seconds later."""
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
    """Call a tool on a server once, and print what it logs, gives and takes; the key must be an admin's."""
    from app.cli.tool_test import try_tool  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(try_tool(url, key, name, tool_input)))


@app.command()
def doctor(
    probe: Annotated[bool, typer.Option(help="Make small real calls to each model, and show what works.")] = False,
) -> None:
    """Check the database, Redis and each configured model, and say in plain words what is wrong."""
    settings = load_settings(log_level="error")
    from app.cli.doctor import print_findings  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(print_findings(settings, probe=probe)))


def start_and_follow(
    kind: str, target: str, project: str, prompt: str, url: str, key: str | None, **body: list[str]
) -> None:
    """Start a run on a server and follow it on the terminal."""
    from app.cli.run_following import run_on_server  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(run_on_server(url, key, kind, target, {"prompt": prompt, "project": project, **body})))


@app.command()
def follow(execution_id: str, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Follow an execution on a server, from its first event to its end."""
    from app.cli.run_following import follow_on_server  # noqa: PLC0415 - heavy, see the module's docstring

    finish(run(follow_on_server(url, key, execution_id)))


@app.command()
def cancel(execution_id: str, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Cancel an execution on a server, and everything that belongs to its run."""
    from app.cli.run_following import cancel_on_server  # noqa: PLC0415 - heavy, see the module's docstring

    run(cancel_on_server(url, key, execution_id))


def load_settings(**overrides: Any) -> "Settings":  # noqa: ANN401 - any setting
    """The settings, and the log as they want it."""
    from structlog import get_logger  # noqa: PLC0415 - heavy, see the module's docstring

    from app.logs import configure_logging  # noqa: PLC0415 - heavy, see the module's docstring
    from app.settings import Settings  # noqa: PLC0415 - heavy, see the module's docstring

    settings = Settings.load(**overrides)
    configure_logging(settings.log_format, settings.log_level)
    for variable in Settings.misspelled():
        get_logger(__name__).warning("unknown-setting", variable=variable.name, likely=variable.likely)
    return settings


def run(work: Coroutine[Any, Any, ResultType]) -> ResultType:
    """Run a coroutine to its end on the fastest event loop there is.

    What the imports have made stays for good: the garbage collector need not look at it again, which takes it 0.2 s.
    A run makes so many objects, nearly all of which end with it, that the collector would look for circles among them a
    dozen times.
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
    """Leave with 0, or with 1."""
    raise typer.Exit(0 if succeeded else 1)


def main() -> None:
    """Run the command; an expected failure is one line on stderr and exit code 1.

    The garbage collector rests until the work begins: imports leave little garbage, and would have it look at all that
    they have made again and again, for a second.
    """
    gc.disable()
    try:
        app()
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    except StartupError as error:
        print(f"dynamic-agents: {error}", file=sys.stderr)  # noqa: T201 - the command's own voice
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(128 + signal.SIGPIPE)
    finally:
        leave_closed_pipe()


def leave_closed_pipe() -> None:
    """Drop what cannot be printed any more because the reader has left, as in `dynamic-agents doctor | head -3`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

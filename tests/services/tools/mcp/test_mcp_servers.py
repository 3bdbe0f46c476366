"""MCP servers: real ones over stdio and HTTP, called, lost and found again."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.errors import StartupError
from app.models.catalog.custom_tool import ToolSource
from app.services.catalog.definitions import ToolDefinition
from app.services.tools.mcp.servers import McpServers
from app.services.tools.mcp.settings import McpServerSettings, load_mcp_servers
from app.services.tools.names import function_name
from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.services.tools.toolbox import Toolbox
from tests.fixtures.mcp_clients import PROGRAM, connected, free_port
from tests.fixtures.waiting import wait_until

STDIO = McpServerSettings(command=sys.executable, args=[str(PROGRAM), "stdio"], env={"GIVEN": "yes"})
CONTEXT = {"executionId": "e", "agentId": "a", "department": "d", "project": None}


@contextlib.asynccontextmanager
async def http_server(port: int) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The fixture's server behind a port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), "http", str(port)), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture(scope="module")
async def stdio(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[McpServers]:
    """A server that the service starts itself."""
    async with connected(tmp_path_factory.mktemp("mcp") / "log", fixture=STDIO) as servers:
        yield servers


async def call(servers: McpServers, tool: str, **tool_input: object) -> object:
    """Call a tool of the server `fixture`."""
    return await servers.call(f"mcp:fixture/{tool}", tool_input, may_repeat=False)


async def code_of(servers: McpServers, tool: str, **tool_input: object) -> tuple[str, str]:
    """Code and message of a call that fails."""
    with pytest.raises(ToolFailed) as caught:
        await call(servers, tool, **tool_input)
    return caught.value.code, caught.value.message


@pytest.mark.slow
async def test_a_server_s_tools_are_found_by_the_names_under_which_they_are_granted(stdio: McpServers) -> None:
    add = await stdio.find("mcp:fixture/add")
    hello = await stdio.find("mcp:fixture/say.hello")

    assert add is not None
    assert hello is not None
    assert (add.name, add.description, add.idempotent) == ("mcp:fixture/add", "Adds two numbers.", True)
    assert add.input_schema["required"] == ["a", "b"]
    assert not hello.idempotent
    assert await stdio.find("mcp:fixture/none") is None
    assert await stdio.find("mcp:unknown/add") is None
    assert stdio.problem_with("mcp:fixture/add") is None
    assert "offers no tool 'none'" in str(stdio.problem_with("mcp:fixture/none"))
    assert "names no server 'unknown'" in str(stdio.problem_with("mcp:unknown/add"))
    (state,) = stdio.describe()
    assert (state.name, state.connected, state.problem, "mcp:fixture/add" in state.tools) == (
        "fixture",
        True,
        None,
        True,
    )


async def test_calls_give_structured_output_or_text(stdio: McpServers) -> None:
    await stdio.find("mcp:fixture/add")

    assert await call(stdio, "add", a=2, b=3) == {"sum": 5}
    hello = await call(stdio, "say.hello", name="keeper")
    assert hello in ("Hello, keeper.", {"result": "Hello, keeper."})
    outputs = await asyncio.gather(*(call(stdio, "add", a=n, b=n) for n in range(30)))
    assert outputs == [{"sum": 2 * n} for n in range(30)]


async def test_errors_in_a_servers_tool_are_reported(stdio: McpServers) -> None:
    await stdio.find("mcp:fixture/add")

    code, message = await code_of(stdio, "fail")
    assert (code, bool(message)) == ("tool-error", True)
    assert (await code_of(stdio, "flood"))[0] == "tool-output-too-large"
    assert (await code_of(stdio, "none"))[0] == "tool-error"


async def test_a_server_sees_only_the_environment_that_it_is_given(
    stdio: McpServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stdio.find("mcp:fixture/add")

    reported = [str(await call(stdio, "variable", name=name)) for name in ("GIVEN", "DATA_DIR", "ADMIN_API_KEY")]

    assert "yes" in reported[0]
    assert all("not set" in one for one in reported[1:])


async def test_a_tool_that_takes_too_long_is_stopped_in_time(stdio: McpServers, sandbox: ToolSandbox) -> None:
    found = await stdio.find("mcp:fixture/nap")
    assert found is not None
    toolbox = Toolbox(sandbox, 0.3, mcp=stdio)

    with pytest.raises(ToolFailed, match="tool-timeout") as caught:
        await toolbox.run(ToolDefinition.of_server(found), {"seconds": 5}, CONTEXT)

    assert caught.value.duration_ms is not None
    assert caught.value.duration_ms >= 300


@pytest.mark.slow
async def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    async with connected(tmp_path / "log", fixture=STDIO) as servers:
        await servers.find("mcp:fixture/add")
        first = await call(servers, "process")

        code, message = await code_of(servers, "die")
        await wait_until(lambda: servers.describe()[0].connected, seconds=60)
        second = await call(servers, "process")

        assert isinstance(first, dict)
        assert isinstance(second, dict)
        os.kill(second["pid"], signal.SIGKILL)
        third = await servers.call("mcp:fixture/process", {}, may_repeat=True)

    assert (code, "was lost during the call" in message) == ("mcp-unavailable", True)
    assert len({str(first), str(second), str(third)}) == 3


@pytest.mark.slow
async def test_a_server_over_http_is_connected_once_it_is_up(tmp_path: Path) -> None:
    port, changes = free_port(), 0

    def count() -> None:
        nonlocal changes
        changes += 1

    settings = McpServerSettings(url=f"http://127.0.0.1:{port}/mcp", headers={"Authorization": "Bearer s"})
    async with connected(tmp_path / "log", fixture=settings, wait=False) as servers:
        servers.on_change(count)
        assert await servers.find("mcp:fixture/add") is None
        assert servers.problem_with("mcp:fixture/add") is None, "the tools of an unavailable server are not known"
        assert (await code_of(servers, "add", a=1, b=1))[0] == "mcp-unavailable"

        async with http_server(port):
            await wait_until(lambda: servers.describe()[0].connected, seconds=60)
            assert await call(servers, "add", a=1, b=1) == {"sum": 2}
            assert changes == 1

        assert (await code_of(servers, "add", a=1, b=1))[0] == "mcp-unavailable"


async def test_a_missing_command_delays_no_other_server(tmp_path: Path) -> None:
    async with connected(tmp_path / "log", fixture=McpServerSettings(command="/no/such/program")) as servers:
        assert await servers.find("mcp:fixture/add") is None
        (state,) = servers.describe()

    assert (state.connected, "FileNotFoundError" in str(state.problem)) == (False, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "mcpServers"),
        ("mcpServers: 1", "mcpServers"),
        ("mcpServers: {a: {}}", "command or a url"),
        ("mcpServers: {a: {command: x, url: 'http://a.example'}}", "command or a url"),
        ("mcpServers: {a: {url: 'file:///etc/passwd'}}", "pattern"),
        ("mcpServers: {a__b: {command: x}}", "a__b"),
        ("mcpServers: {a: {command: x, env: {K: '${NOT_SET_ANYWHERE}'}}}", "NOT_SET_ANYWHERE"),
        ("mcpServers: {a: {command: x, disabled: '${NOT_SET_ANYWHERE}'}}", "NOT_SET_ANYWHERE"),
        ("mcpServers: {a: {type: sse, command: x}}", "'a': Value error, type 'sse' needs a url"),
        ("mcpServers: {a: {type: stdio, url: 'http://a.example'}}", "type 'stdio' needs a command"),
        ("mcpServers: {a: {type: carrier-pigeon, command: x}}", "'a': type:"),
        ("mcpServers: {a: {command: x, timeout: 30000}}", "'a': timeout:"),
        ("mcpServers: {a: {url: 'http://a.example', oauth: {clientId: a, clientSecret: b}}}", "oauth.issuer"),
        ("mcpServers: {a: x}", "command or a url"),
        ("{", "mcpServers"),
    ],
)
def test_a_wrong_file_of_servers_stops_the_start(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "servers.yaml"
    path.write_text(content)

    with pytest.raises(StartupError, match=r"^MCP_SERVERS is invalid") as caught:
        load_mcp_servers(path)

    assert words in str(caught.value)


def test_the_usual_form_is_read_with_variables_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    path = tmp_path / "servers.json"
    path.write_text('{"mcpServers": {"web": {"url": "https://a.example/mcp", "headers": {"A": "Bearer ${TOKEN}"}}}}')

    servers = load_mcp_servers(path)

    assert servers["web"].headers == {"A": "Bearer secret"}
    assert load_mcp_servers(None) == {}
    with pytest.raises(StartupError, match="MCP_SERVERS is invalid"):
        load_mcp_servers(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("wordCount", "wordCount"),
        ("mcp:files/read_file", "mcp__files__read_file"),
        ("mcp:files/a.b", "mcp__files__a_b_"),
        ("mcp:files/a/b", "mcp__files__a_b_"),
        ("mcp:files/" + "x" * 100, "mcp__files__xxx"),
        ("what is this?", "what_is_this__"),
    ],
)
def test_models_receive_names_that_they_can_use(name: str, reported: str) -> None:
    found = function_name(name)

    assert found.startswith(reported)
    assert len(found) <= 64
    assert (found == reported) == (not reported.endswith("_") and "xxx" not in reported)
    assert function_name(found) == found, "what a model repeats stays as it is"


def test_different_names_stay_different() -> None:
    names = ["mcp:a/b.c", "mcp:a/b_c", "mcp:a/b-c", "mcp:a/b/c", "mcp:a_b/c", "mcp:a/b", "mcp:b/a"]

    assert len({function_name(name) for name in names}) == len(names)


def test_a_server_s_tool_is_not_pure() -> None:
    assert ToolDefinition("n", "d", {}, "", "", True, True, frozenset(), source=ToolSource.MCP).is_pure is False


@pytest.mark.slow
async def test_servers_start_where_their_log_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in place of the directory")

    with capture_logs() as logs:
        async with connected(tmp_path / "data" / "mcp-servers.log", fixture=STDIO) as servers:
            assert await call(servers, "add", a=1, b=2) is not None

    assert [entry["error"] for entry in logs if entry["event"] == "mcp-log-not-written"] == ["FileExistsError"]

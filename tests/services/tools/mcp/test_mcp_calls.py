"""Results of MCP tool calls for every kind of content and every unusual answer, over real connections."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from structlog.testing import capture_logs

from app.services.catalog.definitions import ToolDefinition
from app.services.tools.mcp.results import repeats
from app.services.tools.mcp.servers import McpServers
from app.services.tools.mcp.settings import McpServerSettings, OAuthSettings
from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.services.tools.toolbox import Toolbox
from tests.fixtures.mcp_clients import ODD, ODD_PROGRAM, PROGRAM, connected, free_port, listening
from tests.fixtures.mcp_odd_server import CLIENT_ID, CLIENT_SECRET
from tests.fixtures.sandboxes import CONTEXT


@pytest.fixture(scope="module")
async def odd(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[McpServers]:
    """A server that answers in unusual ways."""
    async with connected(tmp_path_factory.mktemp("mcp") / "log", odd=ODD) as servers:
        yield servers


async def call(servers: McpServers, tool: str, **tool_input: Any) -> JsonValue:  # noqa: ANN401 - any JSON value
    """Call a tool of the one server."""
    (server,) = servers.describe()
    return await servers.call(f"mcp:{server.name}/{tool}", tool_input, may_repeat=False)


@pytest.mark.slow
async def test_content_of_every_kind_reaches_the_model_as_text(odd: McpServers) -> None:
    assert await call(odd, "files") == "\n".join(
        [
            "Found these:",
            "[resource file:///notes.md]",
            "# Tides",
            "[resource file:///map.pdf: application/pdf, 8 bytes, not shown]",
            "[image: image/png, 8 bytes, not shown]",
            "[audio: audio/wav, 8 bytes, not shown]",
            "[resource link https://charts.example/1: Chart, text/csv, Depths.]",
        ]
    )


@pytest.mark.parametrize(
    ("tool", "words"), [("missing", "No such file:\n[resource file:///notes.md]\n# Tides"), ("refused", "closed")]
)
async def test_an_error_is_reported_in_the_tool_s_own_words(odd: McpServers, tool: str, words: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        await call(odd, tool)

    assert (caught.value.code, words in caught.value.message) == ("tool-error", True)


@pytest.mark.parametrize(
    ("tool", "output"),
    [
        ("textOnly", "19 degrees"),
        ("otherShape", "warm"),
        ("both", {"text": "Three scenes.", "structuredContent": {"count": 3}}),
        ("twice", {"count": 3}),
        ("listed", {"result": ["a", "b"]}),
    ],
)
async def test_structured_content_and_text_are_given_as_far_as_they_say_something(
    odd: McpServers, tool: str, output: JsonValue
) -> None:
    assert await call(odd, tool) == output


async def test_a_result_that_breaks_its_schema_leaves_the_connection_and_other_calls_as_they_are(
    odd: McpServers,
) -> None:
    before = await call(odd, "process")
    other = asyncio.create_task(call(odd, "nap", seconds=0.5))

    for _ in range(3):
        assert await call(odd, "textOnly") == "19 degrees"
        with pytest.raises(ToolFailed, match="does not match its own output schema") as caught:
            await call(odd, "onlyOtherShape")
        assert caught.value.code == "tool-result-invalid"

    assert await other == "awake"
    assert await call(odd, "process") == before


@pytest.mark.slow
async def test_a_server_that_is_busy_with_a_call_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.tools.mcp.connection.LOOK_EVERY_SECONDS", 0.1)
    async with connected(tmp_path / "log", odd=ODD) as servers:
        before = await call(servers, "process")
        monkeypatch.setattr("app.services.tools.mcp.connection.LIST_SECONDS", 0.1)
        with capture_logs() as logs:
            output = await call(servers, "block", seconds=1)
        monkeypatch.setattr("app.services.tools.mcp.connection.LIST_SECONDS", 60)

        assert (output, await call(servers, "process")) == ("done", before)
    assert "mcp-server-busy" in [log["event"] for log in logs]


@pytest.mark.parametrize(
    ("texts", "structured", "repeated"),
    [
        ([], {"a": 1}, True),
        (["x"], {"result": "x"}, True),
        (["3"], {"result": 3}, True),
        (['{"a":1}'], {"a": 1.0}, True),
        (["1", "2"], {"result": [1, 2]}, True),
        (["x"], {"result": "x", "more": 1}, False),
        (["1", "3"], {"result": [1, 2]}, False),
        (["[" * 100_000], {"a": 1}, False),
    ],
)
def test_text_that_only_repeats_the_structured_content_is_recognized(
    texts: list[str], structured: JsonValue, repeated: bool
) -> None:
    assert repeats(texts, structured) is repeated


@pytest.mark.slow
async def test_a_server_s_own_time_limit_holds_for_its_tools(
    odd: McpServers, sandbox: ToolSandbox, tmp_path: Path
) -> None:
    patient = ODD.model_copy(update={"timeout": 30.0, "args": ODD.args})
    hasty = ODD.model_copy(update={"timeout": 0.2})
    async with connected(tmp_path / "log", patient=patient, hasty=hasty) as servers:
        outcomes: dict[str, object] = {}
        for server, limit in (("patient", 0.05), ("hasty", 60)):
            found = await servers.find(f"mcp:{server}/nap")
            assert found is not None
            toolbox = Toolbox(sandbox, limit, mcp=servers)
            try:
                ran = await toolbox.run(ToolDefinition.of_server(found), {"seconds": 1}, CONTEXT)
                outcomes[server] = ran.output
            except ToolFailed as failed:
                outcomes[server] = failed.code

    assert outcomes == {"patient": "awake", "hasty": "tool-timeout"}
    assert odd.timeout_of("mcp:odd/nap") is None


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_tools_are_called_over_both_transports_of_the_web(tmp_path: Path, transport: str) -> None:
    port = free_port()
    path = {"http": "mcp", "sse": "sse"}[transport]
    settings = McpServerSettings.model_validate({"type": transport, "url": f"http://127.0.0.1:{port}/{path}"})
    async with listening(PROGRAM, transport, port), connected(tmp_path / "log", web=settings) as servers:
        (state,) = servers.describe()
        output = await call(servers, "add", a=1, b=2)
        with pytest.raises(ToolFailed, match="tool-error"):
            await call(servers, "fail")

    assert (state.state, state.transport, output) == ("connected", transport, {"sum": 3})


@pytest.mark.slow
@pytest.mark.parametrize(("secret", "state"), [(CLIENT_SECRET, "connected"), ("another", "unavailable")])
async def test_client_credentials_are_exchanged_for_a_token(tmp_path: Path, secret: str, state: str) -> None:
    port = free_port()
    oauth = OAuthSettings.model_validate(
        {"clientId": CLIENT_ID, "clientSecret": secret, "issuer": f"http://127.0.0.1:{port}/", "scope": "tools"}
    )
    settings = McpServerSettings(url=f"http://127.0.0.1:{port}/mcp", oauth=oauth)
    async with listening(ODD_PROGRAM, "oauth", port), connected(tmp_path / "log", web=settings) as servers:
        (found,) = servers.describe()
        output = await call(servers, "twice") if state == "connected" else None

    assert (found.state, output) == (state, {"count": 3} if state == "connected" else None)
    assert secret not in json.dumps(found.problem)


@pytest.mark.slow
async def test_a_slow_server_is_waited_for_and_its_state_is_visible(tmp_path: Path) -> None:
    slow = McpServerSettings(command=sys.executable, args=ODD.args, env={"START_SECONDS": "3"})
    hasty = slow.model_copy(update={"startup_timeout": 0.5})
    async with connected(tmp_path / "log", wait=False, slow=slow, hasty=hasty) as servers:
        await asyncio.sleep(0)
        first = {one.name: one for one in servers.describe()}
        await servers.first_attempts(60)
        last = {one.name: one for one in servers.describe()}

    assert [one.state for one in first.values()] == ["starting", "starting"]
    assert "of at most 60 s" in str(first["slow"].problem)
    assert (last["slow"].state, last["slow"].problem) == ("connected", None)
    assert last["hasty"].state in ("unavailable", "starting")
    assert "did not start within 0.5 s" in str(last["hasty"].problem)
    assert "MCP_START_SECONDS" in str(last["hasty"].problem)


async def test_a_server_that_is_switched_off_is_not_started_and_offers_nothing(tmp_path: Path) -> None:
    async with connected(tmp_path / "log", off=McpServerSettings(disabled=True)) as servers:
        (state,) = servers.describe()

        assert (state.state, state.connected, state.tools) == ("disabled", False, [])
        assert await servers.find("mcp:off/add") is None
        assert "is disabled" in str(servers.problem_with("mcp:off/add"))
        with pytest.raises(ToolFailed, match="is disabled") as caught:
            await call(servers, "add")

    assert caught.value.code == "mcp-unavailable"

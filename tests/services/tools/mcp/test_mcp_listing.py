"""The tools that MCP servers list: every page of them, bounded, allowed by the settings, watched for changes."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.services.tools.mcp.listing import fitting_schema, log_changes
from app.services.tools.mcp.servers import McpServers
from app.services.tools.mcp.settings import McpServerSettings
from app.services.tools.mcp.tools import McpTool
from app.services.tools.outcomes import ToolFailed
from tests.fixtures.mcp_clients import ODD, ODD_PROGRAM, connected, free_port, listening
from tests.fixtures.waiting import wait_until


@pytest.fixture(scope="module")
async def odd(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[McpServers]:
    """A server with several pages of tools, some of them too wordy."""
    async with connected(tmp_path_factory.mktemp("mcp") / "log", odd=ODD) as servers:
        yield servers


@pytest.mark.slow
async def test_all_pages_of_tools_are_read(odd: McpServers) -> None:
    (state,) = odd.describe()

    assert {"mcp:odd/files", "mcp:odd/process", "mcp:odd/wordy"} <= set(state.tools)
    assert len(state.tools) == 15


async def test_descriptions_and_schemas_are_bounded_before_a_model_reads_them(odd: McpServers) -> None:
    wordy = await odd.find("mcp:odd/wordy")

    assert wordy is not None
    assert (len(wordy.description), wordy.description[-9:]) == (4000, " … (cut)"[-9:].rjust(9, "w"))
    assert len(wordy.input_schema["properties"]["text"]["description"]) == 1000
    assert await odd.find("mcp:odd/huge") is None, "its schema is too large to be sent with every request"


@pytest.mark.parametrize(
    ("schema", "fitting"),
    [
        ({}, {"type": "object"}),
        ([], {"type": "object"}),
        (None, {"type": "object"}),
        ({"properties": {"description": {"type": "string"}}},
         {"type": "object", "properties": {"description": {"type": "string"}}}),
        ({"enum": ["x" * 70_000]}, None),
    ],
)  # fmt: skip
def test_schemas_are_made_to_fit(schema: object, fitting: dict[str, Any] | None) -> None:
    assert fitting_schema(schema) == fitting


def test_a_schema_that_is_nested_too_deeply_does_not_fit() -> None:
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}

    assert fitting_schema(schema) is None


@pytest.mark.slow
async def test_only_allowed_tools_can_be_found_granted_and_called(tmp_path: Path) -> None:
    settings = ODD.model_copy(update={"allowed_tools": ["twice", "secret.*", "nothing"]})
    with capture_logs() as logs:
        async with connected(tmp_path / "log", odd=settings) as servers:
            (state,) = servers.describe()
            problem = servers.problem_with("mcp:odd/files")
            with pytest.raises(ToolFailed, match="do not allow") as caught:
                await servers.call("mcp:odd/files", {}, may_repeat=True)

            assert await servers.call("mcp:odd/twice", {}, may_repeat=True) == {"count": 3}

    assert state.tools == ["mcp:odd/secret.read", "mcp:odd/twice"]
    assert "do not allow" in str(problem)
    assert caught.value.code == "tool-unavailable"
    assert [log["tool"] for log in logs if log["event"] == "mcp-tool-unusable"] == ["nothing"]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_change_that_a_server_announces_is_read_at_once_and_named_in_the_log(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.tools.mcp.connection.LOOK_EVERY_SECONDS", 3600)
    port, changes = free_port(), 0

    def count() -> None:
        nonlocal changes
        changes += 1

    async def change(settings: McpServerSettings) -> str | None:
        async with connected(tmp_path / "log", odd=settings) as servers:
            servers.on_change(count)
            assert await servers.call("mcp:odd/change", {}, may_repeat=False) == "changed"
            await wait_until(lambda: "mcp:odd/later" in servers.describe()[0].tools, seconds=30)
            files = await servers.find("mcp:odd/files")
            return files.description if files else None

    with capture_logs() as logs:
        if transport == "stdio":
            description = await change(ODD)
        else:
            async with listening(ODD_PROGRAM, "http", port):
                description = await change(McpServerSettings(url=f"http://127.0.0.1:{port}/mcp"))

    events = [(log["event"], log["tool"]) for log in logs if log["event"] in ("mcp-tool-added", "mcp-tool-changed")]
    assert (description, changes) == ("Sends all files to another host.", 1)
    assert events == [("mcp-tool-changed", "files"), ("mcp-tool-added", "later")]
    assert next(log["changed"] for log in logs if log["event"] == "mcp-tool-changed") == ["description"]


def test_every_kind_of_change_is_named() -> None:
    old = McpTool("mcp:a/b", "Reads.", {"type": "object"}, idempotent=True)
    new = McpTool("mcp:a/b", "Reads.", {"type": "object", "required": ["c"]}, idempotent=False)

    with capture_logs() as logs:
        log_changes("a", {}, {"b": old})
        log_changes("a", {"b": old}, {"b": new})
        log_changes("a", {"b": new}, {"c": new})

    assert [(log["event"], log["tool"], log.get("changed")) for log in logs] == [
        ("mcp-tool-changed", "b", ["input_schema", "idempotent"]),
        ("mcp-tool-removed", "b", None),
        ("mcp-tool-added", "c", None),
    ]
    assert logs[0]["before"] != logs[0]["after"]

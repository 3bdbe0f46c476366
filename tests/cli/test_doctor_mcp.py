"""The doctor's findings about MCP servers, each of which it starts or reaches."""

from pathlib import Path

import pytest

from app.cli.doctor import examine_mcp_servers
from app.services.tools.mcp.settings import McpServerSettings
from app.settings import Settings
from tests.fixtures.mcp_clients import ODD


@pytest.mark.slow
async def test_each_server_is_tried_and_its_state_reported(tmp_path: Path) -> None:
    servers = {
        "odd": ODD,
        "lost": McpServerSettings(command="/no/such/program"),
        "far": McpServerSettings(url="http://127.0.0.1:9/mcp"),
        "off": McpServerSettings(disabled=True),
    }

    findings = [one async for one in examine_mcp_servers(Settings(data_dir=tmp_path), servers)]

    assert [(one.subject, one.ok) for one in findings] == [
        ("MCP server odd", True),
        ("MCP server lost", False),
        ("MCP server far", False),
        ("MCP server off", None),
    ]
    assert findings[0].text == "stdio, 15 tools"
    assert "FileNotFoundError" in findings[1].text
    assert findings[1].text.endswith(f"or read what it printed in {tmp_path / 'mcp-servers.log'}.")
    assert findings[2].text.endswith("or start it.")
    assert "disabled" in findings[3].text


async def test_without_servers_there_is_nothing_to_report(tmp_path: Path) -> None:
    assert [one async for one in examine_mcp_servers(Settings(data_dir=tmp_path), {})] == []

"""MCP servers over HTTP: their states, and their tools in their own words."""

import json
import sys
from pathlib import Path

import pytest

from tests.fixtures.mcp_clients import ODD_PROGRAM
from tests.fixtures.services import StartService
from tests.fixtures.waiting import wait_until


@pytest.mark.slow
async def test_servers_are_shown_with_their_states_and_tools(start_service: StartService, tmp_path: Path) -> None:
    entry = {"command": sys.executable, "args": [str(ODD_PROGRAM), "stdio"], "allowedTools": ["twice", "wordy"]}
    path = tmp_path / "servers.json"
    path.write_text(json.dumps({"mcpServers": {"odd": entry, "off": {"url": "http://a.example", "disabled": True}}}))
    async with start_service(mcp_servers=path, mcp_start_seconds=60) as service:
        first = (await service.http.get("/api/v1/mcp-servers")).json()["items"][0]["state"]
        ready = await service.http.get("/readyz")

        async def is_connected() -> bool:
            return (await service.http.get("/api/v1/mcp-servers")).json()["items"][0]["connected"]

        await wait_until(is_connected, seconds=60)
        odd, off = (await service.http.get("/api/v1/mcp-servers")).json()["items"]

    twice, wordy = odd["toolDetails"]
    assert first in ("starting", "connected")
    assert ready.status_code == 200, "the service is ready without its MCP servers"
    assert (odd["state"], odd["transport"], odd["problem"]) == ("connected", "stdio", None)
    assert odd["tools"] == ["mcp:odd/twice", "mcp:odd/wordy"]
    assert twice == {
        "name": "mcp:odd/twice",
        "description": "twice",
        "idempotent": True,
        "inputSchema": {"type": "object"},
    }
    assert len(wordy["description"]) == 4000
    assert (off["state"], off["connected"], off["transport"], off["tools"]) == ("disabled", False, None, [])
    assert "disabled" in off["problem"]

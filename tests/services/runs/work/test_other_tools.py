"""Tools that do not run in the sandbox: in Python and on MCP servers, under the same rules and with the same events."""

import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from app.errors import StartupError
from app.services.tools.builtin import builtin_tool, load_builtin_tools
from tests.fixtures.model_server import ModelServer, completion
from tests.fixtures.runs import all_events, first_then, of_type
from tests.fixtures.services import Service, StartService
from tests.fixtures.waiting import wait_until

AGENT = "plot-specialist-001"
GRANTED = ["reverseText", "countSlowly", "textStatistics", "mcp:fixture/add", "mcp:fixture/say.hello"]
MCP_PROGRAM = Path(__file__).parents[3] / "fixtures" / "mcp_server.py"


@pytest.fixture
async def equipped(start_service: StartService, models_config: Path, tmp_path: Path) -> AsyncGenerator[Service]:
    """A service with two tools in Python and one MCP server, which is connected."""
    servers = {"mcpServers": {"fixture": {"command": sys.executable, "args": [str(MCP_PROGRAM), "stdio"]}}}
    path = tmp_path / "servers.json"
    path.write_text(json.dumps(servers))
    modules = ("tests.fixtures.builtin_tools",)
    async with start_service(models_config=models_config, mcp_servers=path, tool_modules=modules) as service:

        async def is_connected() -> bool:
            return (await service.http.get("/api/v1/mcp-servers")).json()["items"][0]["connected"]

        await wait_until(is_connected, seconds=60)
        yield service


@pytest.mark.slow
async def test_tools_of_every_kind_are_listed_granted_called_and_recorded_alike(
    equipped: Service, model_server: ModelServer
) -> None:
    http = equipped.http
    listed = (await http.get("/api/v1/custom-tools/reverseText")).json()
    sources = {tool["source"] for tool in (await http.get("/api/v1/custom-tools?limit=50")).json()["items"]}
    (server,) = (await http.get("/api/v1/mcp-servers")).json()["items"]
    refusals = [
        await http.patch("/api/v1/custom-tools/reverseText", json={"description": "Mine."}),
        await http.delete("/api/v1/custom-tools/reverseText"),
    ]
    granted = await http.patch(f"/api/v1/agents/{AGENT}", json={"toolNames": GRANTED})
    unknown = [
        await http.patch(f"/api/v1/agents/{AGENT}", json={"toolNames": [name]})
        for name in ("mcp:fixture/none", "mcp:unknown/add", "mcp:fixture")
    ]
    tried = await http.post("/api/v1/custom-tools/reverseText/test", json={"input": {"text": "abc"}})
    turn = completion(
        None,
        ("reverseText", {"text": "abc"}),
        ("reverseText", {"text": 1}),
        ("reverseText", {"text": "bad"}),
        ("reverseText", {"text": "broken"}),
        ("countSlowly", {}),
        ("mcp__fixture__add", {"a": 1, "b": 2}),
        ("mcp__fixture__add", {"a": "one"}),
        ("mcp__fixture__fail", {}),
    )
    model_server.on("work", first_then(turn, "Done."))
    done = await equipped.run_agent(AGENT, judge=False)
    events = await all_events(equipped, done["executionId"])

    assert (listed["source"], listed["executeFunction"], sources) == (
        "builtin",
        "// Python: tests.fixtures.builtin_tools.reverse_text",
        {"custom", "builtin"},
    )
    assert (server["name"], "mcp:fixture/add" in server["tools"]) == ("fixture", True)
    assert [(answer.status_code, answer.json()["code"]) for answer in refusals] == [(409, "custom-tool-builtin")] * 2
    assert (granted.status_code, granted.json()["toolNames"]) == (200, GRANTED)
    assert [answer.json()["errors"][0]["path"] for answer in unknown] == ["toolNames.0"] * 3
    assert tried.json()["output"] == {"reversed": "cba", "for": "example"}
    results = [event["output"] for event in sorted(of_type(events, "tool-result"), key=lambda e: e["toolCallId"])]
    codes = sorted(output["error"]["code"] for output in results if "error" in output)
    assert codes == [
        *("tool-error", "tool-error", "tool-input-invalid", "tool-input-invalid"),
        *("tool-not-granted", "tool-result-invalid"),
    ]
    assert {"reversed": "cba", "for": AGENT} in results
    assert {"sum": 3} in results
    assert "secret of the inside" not in str(events)
    calls = of_type(events, "tool-call")
    assert {call["toolName"] for call in calls} >= {"mcp:fixture/add", "reverseText"}
    assert {call.get("version") for call in calls if call["toolName"] == "countSlowly"} == {"2.1.0"}
    first, second = model_server.calls_for("work")
    assert first.tools[-2:] == ["mcp__fixture__add", first.tools[-1]]
    assert first.tools[-1].startswith("mcp__fixture__say_hello_")
    shown_results = [str(message["content"]) for message in second.messages if message["role"] == "tool"]
    assert len(shown_results) == 8
    assert all(text.startswith("<<<RESULT OF ") and ">>>\n{" in text for text in shown_results)
    names = [call["function"]["name"] for message in second.messages for call in message.get("tool_calls") or ()]
    assert names.count("mcp__fixture__add") == 2

    async def is_counted() -> bool:
        return (await http.get("/api/v1/custom-tools/reverseText")).json()["totalExecutions"] == 4

    await wait_until(is_counted)


@pytest.mark.slow
async def test_a_custom_tool_is_never_overwritten_by_a_built_in_one(
    start_service: StartService, models_config: Path
) -> None:
    body = {
        "toolName": "reverseText",
        "displayName": "Mine",
        "description": "Mine.",
        "inputSchema": {},
        "executeFunction": "() => 'mine'",
    }
    async with start_service(models_config=models_config) as service:
        assert (await service.http.post("/api/v1/custom-tools", json=body)).status_code == 201
    async with start_service(models_config=models_config, tool_modules=("tests.fixtures.builtin_tools",)) as service:
        tried = await service.http.post("/api/v1/custom-tools/reverseText/test", json={"input": {}})
        other = (await service.http.get("/api/v1/custom-tools/countSlowly")).json()

    assert (tried.json()["output"], other["version"]) == ("mine", "2.1.0")


def test_a_module_that_cannot_be_imported_stops_the_start() -> None:
    with pytest.raises(StartupError, match=r"TOOL_MODULES is invalid: no\.such\.module"):
        load_builtin_tools(["no.such.module"])


@pytest.mark.parametrize(
    ("name", "schema"), [("Not camel", {}), ("fine", {"type": "objekt"}), ("fine", {"$ref": "https://a.example/"})]
)
def test_a_built_in_tool_that_could_not_be_in_the_catalog_stops_the_start(name: str, schema: dict[str, str]) -> None:
    with pytest.raises(StartupError, match="built-in tool"):
        builtin_tool(name=name, description="x", input_schema=dict(schema))(lambda _, __: None)

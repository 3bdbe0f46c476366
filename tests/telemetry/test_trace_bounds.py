"""Traces cost nothing where they are off, disturb nothing where the collector is broken, and leak to no one."""

import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import Context, MCPServer

from app.errors import StartupError
from app.services.tools.mcp.settings import McpServerSettings
from app.settings import Settings
from app.telemetry import otel
from app.telemetry.trace_settings import traces_endpoint
from app.telemetry.tracing import NO_TRACE, NO_TRACES, open_tracing
from tests.fixtures.mcp_clients import connected
from tests.fixtures.model_server import ModelServer, serve_app, stop_server
from tests.fixtures.otlp_receiver import otlp_receiver
from tests.fixtures.processes import ROOT, bare_environment
from tests.fixtures.services import StartService
from tests.fixtures.web_server import web_server

OFF = """
import asyncio, sys
from app.main import create_app
from app.settings import Settings
from app.telemetry.tracing import NO_TRACES, open_tracing

async def open_both(**given):
    settings = Settings(_env_file=None, **given)
    create_app(settings)
    async with open_tracing(settings) as traces:
        assert traces is NO_TRACES

asyncio.run(open_both())
heavy = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf", "app.telemetry.otel")
print(sorted(name for name in sys.modules if name.startswith(heavy)))
sys.modules["opentelemetry.exporter"] = None
asyncio.run(open_both(otel_exporter_otlp_endpoint="http://127.0.0.1:9"))
"""
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def settings(**given: Any) -> Settings:  # noqa: ANN401 - any setting
    """Settings of this test alone."""
    return Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue] - pydantic-settings' own


def test_without_an_address_or_without_the_extra_nothing_is_imported_and_nothing_recorded() -> None:
    """FastAPI imports OpenTelemetry's API for itself, and redis-py the SDK's metrics."""
    result = subprocess.run(
        (sys.executable, "-c", OFF), cwd=ROOT, env=bare_environment(), capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "[]"
    assert "tracing-unavailable" in result.stdout + result.stderr


def test_without_traces_every_call_is_empty() -> None:
    with NO_TRACE.span("exec_1", "chat model", {}) as span:
        span.set({"a": 1})
        span.fail("model-timeout")

    assert (NO_TRACES.current(), NO_TRACES.tree("exec_1", None), NO_TRACE.trace_id) == (None, NO_TRACE, None)


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, "http://collector:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces.example/in"}, "https://traces.example/in"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://collector:4318/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "http://collector:4318/v1/traces",
        ),
        ({"OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_SDK_DISABLED": "TRUE"}, None),
    ],
)
def test_the_standard_variables_decide_where_spans_go(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert traces_endpoint(settings(otel_exporter_otlp_endpoint="http://collector:4318/")) == endpoint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ],
)
def test_an_invalid_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(StartupError, match=f"^{name} is invalid"):
        traces_endpoint(settings(otel_exporter_otlp_endpoint="http://collector:4318"))


async def test_an_invalid_queue_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")

    with pytest.raises(StartupError, match="OTEL_ variable is invalid"):
        async with open_tracing(settings(otel_exporter_otlp_endpoint="http://127.0.0.1:9")):
            pass


@pytest.mark.slow
async def test_a_collector_that_hangs_neither_slows_nor_fails_runs_nor_the_end_of_the_process(
    start_service: StartService, models_config: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "CLOSE_SECONDS", 0.2)
    for name, value in (("MAX_QUEUE_SIZE", "8"), ("MAX_EXPORT_BATCH_SIZE", "4"), ("SCHEDULE_DELAY", "10")):
        monkeypatch.setenv(f"OTEL_BSP_{name}", value)
    async with web_server() as collector:
        collector.silent.add("/v1/traces")
        start = start_service(models_config=models_config, otel_exporter_otlp_endpoint=collector.url(""))
        async with start as service:
            runs = [await service.run_agent("plot-specialist-001", judge=False) for _ in range(6)]
            asked, ended = len(collector.requests), time.monotonic()
        closed = time.monotonic() - ended

    assert [run["status"] for run in runs] == ["completed"] * 6
    assert asked == 1
    assert closed < 8


@pytest.fixture
async def meta_server() -> AsyncGenerator[str]:
    """The address of an MCP server whose tool returns what came with its call."""
    server = MCPServer("meta")

    @server.tool()
    def meta(context: Context) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - called by its name
        """Return the metadata of the request."""
        return dict(context.request_context.meta or {})

    running, task, url = await serve_app(server.streamable_http_app())
    yield f"{url}/mcp"
    await stop_server(running, task)


async def test_only_an_mcp_server_with_trace_context_receives_the_trace(meta_server: str, tmp_path: Path) -> None:
    shut, opened = (McpServerSettings(url=meta_server, trace_context=given) for given in (False, True))
    async with (
        otlp_receiver() as collector,
        open_tracing(settings(otel_exporter_otlp_endpoint=collector.url)) as traces,
        connected(tmp_path / "mcp.log", shut=shut, opened=opened) as tools,
    ):
        tree = traces.tree("exec_1", {"traceparent": TRACEPARENT})
        with tree.span("exec_1", "execute_tool", {}):
            found = [await tools.call(f"mcp:{name}/meta", {}, may_repeat=False) for name in ("shut", "opened")]

    assert "traceparent" not in str(found[0])
    assert TRACEPARENT[:36] in str(found[1])

"""Server spans of HTTP requests, by FastAPI's own telemetry with nothing but its spans."""

from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from starlette.types import Scope

from app.telemetry.otel import RecordedTraces
from app.telemetry.tracing import NO_TELEMETRY, HttpTracing, Traces

QUIET_PATHS = ("/healthz", "/readyz", "/metrics")
QUERY = "url.query"


class ServerTracer(trace.Tracer):
    """Starts spans of requests without their queries, which can hold tickets and texts."""

    def __init__(self, traces: Callable[[], Traces], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._traces, self._arguments, self._options = traces, arguments, options
        self._opened: tuple[Traces, trace.Tracer] | None = None

    def start_span(self, name: str, *arguments: Any, **options: Any) -> trace.Span:  # noqa: ANN401 - OpenTelemetry's
        """Start the span of a request."""
        attributes = {key: value for key, value in (options.get("attributes") or {}).items() if key != QUERY}
        return self._tracer().start_span(name, *arguments, **{**options, "attributes": attributes})

    def start_as_current_span(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - OpenTelemetry's
        """Start a span and make it the current one."""
        return self._tracer().start_as_current_span(*arguments, **options)

    def _tracer(self) -> trace.Tracer:
        traces = self._traces()
        if self._opened is None or self._opened[0] is not traces:
            provider = traces.provider if isinstance(traces, RecordedTraces) else trace.NoOpTracerProvider()
            self._opened = traces, provider.get_tracer(*self._arguments, **self._options)
        return self._opened[1]


class ServerTracerProvider(trace.TracerProvider):
    """Gives FastAPI the tracer of the process, which opens after the application is made."""

    def __init__(self, traces: Callable[[], Traces]) -> None:
        self._traces = traces

    def get_tracer(self, *arguments: Any, **options: Any) -> trace.Tracer:  # noqa: ANN401 - OpenTelemetry's
        """Return the tracer of a library."""
        return ServerTracer(self._traces, arguments, options)


def is_untraced(scope: Scope) -> bool:
    """Return whether a request has no span: probes, and sockets, which stay open for hours."""
    return scope["type"] != "http" or scope["path"] in QUIET_PATHS


def current_trace_id() -> str | None:
    """Return the id of the current span's trace."""
    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else None


def request_tracing(traces: Callable[[], Traces]) -> HttpTracing:
    """Return the tracing of an application; `traces` returns those of its process."""
    return HttpTracing(
        telemetry={
            **NO_TELEMETRY,
            "tracing": True,
            "tracer_provider": ServerTracerProvider(traces),
            "exclude": is_untraced,
        },
        trace_id=current_trace_id,
    )

"""Traces of run trees, and the same interface for processes that record no traces.

Nothing here imports OpenTelemetry: a process without a collector, or without the extra `otel`, uses the
`Traces` and `TreeTrace` defined here, which do nothing. `app.telemetry.otel` records spans.

One tree is one trace, whichever processes run it. The id of an execution's span is computed from the execution's id, so
that the spans of its calls have a parent even if the process that recorded them died before the execution ended.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from app.settings import Settings
from app.telemetry.trace_settings import traces_endpoint

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]

ADVICE = "Install the extra 'otel' (dynamic-agents[otel]), or unset OTEL_EXPORTER_OTLP_ENDPOINT."
NO_TELEMETRY: "TelemetryConfig" = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own telemetry, all of it off: it would record queries and tracebacks, and read the environment itself."""

log = structlog.get_logger(__name__)


class Span:
    """A span that is not recorded."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, code: str) -> None:
        """Mark the span as failed with an error code."""


NO_SPAN = Span()


@dataclass(frozen=True)
class FinishedSpan:
    """A span of something that is over; `error` is the code of the error that ended it."""

    name: str
    began: datetime
    ended: datetime
    attributes: Attributes = field(default_factory=dict[str, str])
    error: str | None = None


class TreeTrace:
    """The spans of one run tree, none of which is recorded."""

    is_on = False
    captures_content = False
    """Whether spans hold prompts, answers, inputs and results."""
    trace_id: str | None = None
    """The id of the trace, 32 hexadecimal digits."""

    def span(
        self, execution_id: str, name: str, attributes: Attributes, *, is_client: bool = False
    ) -> AbstractContextManager[Span]:
        """Return a context whose work is a span below an execution's; `is_client` marks a call of another service."""
        return contextlib.nullcontext(NO_SPAN)

    def record(self, execution_id: str | None, span: FinishedSpan) -> None:
        """Record a span below an execution's, or with `None` below the request that started the run."""

    def record_execution(self, execution_id: str, parent_id: str | None, span: FinishedSpan) -> None:
        """Record the span of an execution that has ended."""


NO_TRACE = TreeTrace()


class Traces:
    """The traces of a process, none of which is recorded."""

    is_on = False

    def current(self) -> dict[str, str] | None:
        """Return the W3C context of the request that is being handled, as `traceparent` and perhaps `tracestate`."""
        return None

    def tree(
        self,
        root_id: str,
        stored: Mapping[str, str | None] | None,
        reopened_at: Callable[[str], str | None] = lambda _: None,
    ) -> TreeTrace:
        """Return the spans of a tree whose root holds this W3C context.

        `reopened_at` returns when an execution was last sent back for a revision: each revision is a span of its own.
        """
        return NO_TRACE


NO_TRACES = Traces()


@dataclass
class Propagation:
    """How this process passes its traces on to services that it calls, set while there are any."""

    headers: Callable[[], dict[str, str]] = dict
    hidden: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext


PROPAGATION = Propagation()


def outgoing_headers() -> dict[str, str]:
    """Return the headers that let another service continue the present trace; none without a trace."""
    return PROPAGATION.headers()


def hidden_trace() -> AbstractContextManager[Any]:
    """Return a context in which libraries find no trace to pass on."""
    return PROPAGATION.hidden()


@dataclass(frozen=True)
class HttpTracing:
    """The tracing of an HTTP application: FastAPI's configuration, and the id of a request's trace, if any."""

    telemetry: "TelemetryConfig" = field(default_factory=lambda: NO_TELEMETRY)
    trace_id: Callable[[], str | None] = lambda: None


def http_tracing(settings: Settings, traces: Callable[[], Traces]) -> HttpTracing:
    """Return the tracing of an application; `traces` returns those of its process once they are open.

    Raises:
        StartupError: an `OTEL_` variable is invalid.
    """
    if traces_endpoint(settings) is None:
        return HttpTracing()
    try:
        from app.telemetry.otel_http import request_tracing  # noqa: PLC0415 - an optional extra
    except ImportError:
        return HttpTracing()
    return request_tracing(traces)


@asynccontextmanager
async def open_tracing(settings: Settings) -> AsyncGenerator[Traces]:
    """Open the traces of this process; without a collector's address or the extra `otel`, none are recorded.

    Raises:
        StartupError: an `OTEL_` variable is invalid.
    """
    endpoint = traces_endpoint(settings)
    if endpoint is None:
        yield NO_TRACES
        return
    try:
        from app.telemetry.otel import recorded_traces  # noqa: PLC0415 - an optional extra
    except ImportError:
        log.warning("tracing-unavailable", advice=ADVICE)
        yield NO_TRACES
        return
    async with recorded_traces(endpoint, captures_content=settings.otel_capture_content) as traces:
        yield traces

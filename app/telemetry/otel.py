"""Spans recorded with OpenTelemetry's SDK. Only this module and `otel_http` import OpenTelemetry.

The provider is never made the global one: libraries that look for it, such as the MCP SDK, record nothing of their own.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from uuid import uuid4

import httpx
import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.re import parse_env_headers

from app.errors import StartupError
from app.telemetry.gen_ai import ERROR_TYPE, SCHEMA_URL
from app.telemetry.trace_settings import variable
from app.telemetry.tracing import PROPAGATION, Attributes, FinishedSpan, Span, Traces, TreeTrace

SERVICE = "dynamic-agents"
SCOPE = "dynamic_agents"
CLOSE_SECONDS = 3.0
"""How long a process that stops waits for the collector; after that, the last spans are lost."""
COMPLAIN_EVERY_SECONDS = 60.0
REACH_SECONDS = 3.0
MAX_STATE_CHARACTERS = 512
"""A longer `tracestate` is not stored with a run; the W3C requires propagating at least this much."""

W3C = TraceContextTextMapPropagator()
FIXED_IDS: ContextVar[tuple[int, int] | None] = ContextVar("fixed_ids", default=None)
"""The ids of the trace and of the span that is being created, if they are not random."""

log = structlog.get_logger(__name__)


class ComputedIds(RandomIdGenerator):
    """Random ids, except for the spans of executions."""

    def generate_span_id(self) -> int:
        """Return the id of a new span."""
        fixed = FIXED_IDS.get()
        return fixed[1] if fixed else super().generate_span_id()

    def generate_trace_id(self) -> int:
        """Return the id of a new trace."""
        fixed = FIXED_IDS.get()
        return fixed[0] if fixed else super().generate_trace_id()


class NotingExporter(SpanExporter):
    """Exports spans, and logs failures at most once a minute."""

    def __init__(self, following: SpanExporter) -> None:
        self._following = following
        self._complained_at = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; runs in a thread of its own."""
        result = self._following.export(spans)
        if result is not SpanExportResult.SUCCESS and time.monotonic() - self._complained_at > COMPLAIN_EVERY_SECONDS:
            self._complained_at = time.monotonic()
            log.warning("trace-export-failed", spans=len(spans), advice="Check OTEL_EXPORTER_OTLP_ENDPOINT.")
        return result

    def shutdown(self) -> None:
        """Close the connections to the collector."""
        self._following.shutdown()


class RecordedSpan(Span):
    """A span that is recorded."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def fail(self, code: str) -> None:
        """Mark the span as failed with an error code."""
        self._span.set_attribute(ERROR_TYPE, code)
        self._span.set_status(StatusCode.ERROR, code)


class RecordedTree(TreeTrace):
    """The spans of one run tree."""

    is_on = True

    def __init__(
        self,
        tracer: trace.Tracer,
        origin: SpanContext,
        root_id: str,
        reopened_at: Callable[[str], str | None],
        *,
        captures_content: bool,
    ) -> None:
        """Create the spans of a tree that the span `origin` started; without a span id, no request is known."""
        self.captures_content = captures_content
        self.trace_id = trace.format_trace_id(origin.trace_id)
        self._tracer = tracer
        self._origin = origin
        self._root_id = root_id
        self._reopened_at = reopened_at

    @contextmanager
    def span(self, execution_id: str, name: str, attributes: Attributes, *, is_client: bool = False) -> Generator[Span]:
        """Record the work of the context as a span below an execution's."""
        kind = SpanKind.CLIENT if is_client else SpanKind.INTERNAL
        span = self._tracer.start_span(name, self._below(execution_id), kind, attributes)
        recorded = RecordedSpan(span)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield recorded
            except BaseException as error:
                code = getattr(error, "code", None)
                recorded.fail(code if isinstance(code, str) else type(error).__name__)
                raise

    def record(self, execution_id: str | None, span: FinishedSpan) -> None:
        """Record a span below an execution's, or below the request that started the run."""
        below = self._of(self._origin) if execution_id is None and self._origin.is_valid else self._below(execution_id)
        self._finish(span, below)

    def record_execution(self, execution_id: str, parent_id: str | None, span: FinishedSpan) -> None:
        """Record the span of an execution that has ended, with the id that its calls name as their parent."""
        below = self._below(parent_id) if parent_id is not None else self._of(self._origin)
        token = FIXED_IDS.set((self._origin.trace_id, self._span_id(execution_id)))
        try:
            self._finish(span, below)
        finally:
            FIXED_IDS.reset(token)

    def _finish(self, span: FinishedSpan, below: Context) -> None:
        request = trace.get_current_span().get_span_context()
        links = [Link(request)] if request.is_valid and request.trace_id != self._origin.trace_id else []
        started = self._tracer.start_span(
            span.name, below, attributes=span.attributes, links=links, start_time=nanoseconds(span.began)
        )
        if span.error is not None:
            RecordedSpan(started).fail(span.error)
        started.end(nanoseconds(max(span.ended, span.began)))

    def _below(self, execution_id: str | None) -> Context:
        return self._of(
            SpanContext(
                self._origin.trace_id,
                self._span_id(execution_id or self._root_id),
                is_remote=True,
                trace_flags=self._origin.trace_flags,
                trace_state=self._origin.trace_state,
            )
        )

    @staticmethod
    def _of(span_context: SpanContext) -> Context:
        return trace.set_span_in_context(NonRecordingSpan(span_context), Context())

    def _span_id(self, execution_id: str) -> int:
        revision = self._reopened_at(execution_id) or ""
        return int.from_bytes(sha256(f"{execution_id} {revision}".encode()).digest()[:8]) or 1


class RecordedTraces(Traces):
    """The traces of a process, exported in the background."""

    is_on = True

    def __init__(self, provider: TracerProvider, *, captures_content: bool) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer(SCOPE, version(SERVICE), schema_url=SCHEMA_URL)
        self._captures_content = captures_content

    def current(self) -> dict[str, str] | None:
        """Return the W3C context of the request that is being handled."""
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        if len(carrier.get("tracestate", "")) > MAX_STATE_CHARACTERS:
            del carrier["tracestate"]
        return carrier or None

    def tree(
        self,
        root_id: str,
        stored: Mapping[str, str | None] | None,
        reopened_at: Callable[[str], str | None] = lambda _: None,
    ) -> TreeTrace:
        """Return the spans of a tree whose root holds this W3C context; without one, the root's id names the trace."""
        carrier = {name: value for name, value in (stored or {}).items() if value}
        origin = trace.get_current_span(W3C.extract(carrier, Context())).get_span_context()
        if not origin.is_valid:
            origin = self._origin_of(root_id)
        return RecordedTree(self._tracer, origin, root_id, reopened_at, captures_content=self._captures_content)

    def _origin_of(self, root_id: str) -> SpanContext:
        """Return the beginning of a trace that no request began, the same in every process."""
        trace_id = int.from_bytes(sha256(root_id.encode()).digest()[:16]) or 1
        sampled = self.provider.sampler.should_sample(None, trace_id, SCOPE).decision.is_sampled()
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        return SpanContext(trace_id, trace.INVALID_SPAN_ID, is_remote=True, trace_flags=flags)


def nanoseconds(at: datetime) -> int:
    """Return a time in OpenTelemetry's form."""
    return round(at.timestamp() * 1_000_000) * 1000


def outgoing() -> dict[str, str]:
    """Return the W3C context of the current span as headers."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier)
    return carrier


@contextmanager
def hidden() -> Generator[None]:
    """Hide the current span from libraries."""
    token = otel_context.attach(Context())
    try:
        yield
    finally:
        otel_context.detach(token)


def make_provider(endpoint: str) -> TracerProvider:
    """Return a provider that exports to an address and takes everything else from the environment.

    Raises:
        StartupError: an `OTEL_` variable is invalid.
    """
    own = {SERVICE_VERSION: version(SERVICE), SERVICE_INSTANCE_ID: str(uuid4())}
    try:
        resource = Resource.create(own)
        if not variable("OTEL_SERVICE_NAME") and "service.name=" not in variable("OTEL_RESOURCE_ATTRIBUTES"):
            resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=ComputedIds())
        provider.add_span_processor(BatchSpanProcessor(NotingExporter(OTLPSpanExporter(endpoint))))
    except (ValueError, OSError) as error:
        raise StartupError(f"An OTEL_ variable is invalid: {error}.") from None
    return provider


@asynccontextmanager
async def recorded_traces(endpoint: str, *, captures_content: bool) -> AsyncGenerator[RecordedTraces]:
    """Record and export the traces of this process; the last spans are sent when the context ends.

    Raises:
        StartupError: an `OTEL_` variable is invalid.
    """
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # `NotingExporter` logs this, less often
    provider = make_provider(endpoint)
    PROPAGATION.headers, PROPAGATION.hidden = outgoing, hidden
    try:
        yield RecordedTraces(provider, captures_content=captures_content)
    finally:
        PROPAGATION.headers, PROPAGATION.hidden = dict, contextlib.nullcontext
        await close(provider)


async def reach(endpoint: str) -> str | None:
    """Send an export without spans; return its problem, such as `does not answer`, or `None` if it is accepted."""
    given = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or variable("OTEL_EXPORTER_OTLP_HEADERS")
    headers = {**parse_env_headers(given, liberal=True), "content-type": "application/x-protobuf"}
    try:
        async with httpx.AsyncClient(timeout=REACH_SECONDS) as http:
            answer = await http.post(endpoint, content=b"", headers=headers)
    except httpx.HTTPError as error:
        return f"does not answer ({type(error).__name__})"
    return None if answer.is_success else f"answers with {answer.status_code}"


async def close(provider: TracerProvider) -> None:
    """Export what is left, for a few seconds at most."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(closed.set)

    # A thread of the loop's pool would keep the process from ending.
    threading.Thread(target=shut_down, name="trace-export-end", daemon=True).start()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await closed.wait()
    except TimeoutError:
        log.warning("trace-export-abandoned", seconds=CLOSE_SECONDS)

"""The metrics of this process, in Prometheus's format.

Each process counts its own work; add up all processes for the total. Gauges of what all processes share, such as the
queue, are the same in each: use `max` over processes. No label holds an id or a text of a client; labels whose values
come from configuration have a bounded number of values.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

PREFIX = "dynamic_agents_"
MAX_LABEL_VALUES = 200
OTHER = "other"
KINDS = ("agent", "department", "orchestration")
ENDS = ("completed", "failed", "cancelled")
DIRECTIONS = ("input", "output", "cache_read", "cache_write")
CACHE_RESULTS = ("hit", "miss", "bypass")
TOOL_SOURCES = ("custom", "builtin", "mcp")
TOOL_OUTCOMES = ("ok", "error", "timeout", "declined")
TRANSPORTS = ("websocket", "sse")
SCOPE_TYPES = ("global", "project", "department", "agent", "key")
WORKER_STATES = ("idle", "busy", "starting")
KILL_REASONS = ("timeout", "crashed", "cancelled")
DELIVERIES = ("delivered", "failed")
MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WAITS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
WORK = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)

LABELS: dict[str, tuple[str, ...]] = {}
"""The labels of each metric of the product by its name, a counter's without `_total`."""

disable_created_metrics()
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)


class LabelValues:
    """The values of a label that are shown as they are; those beyond the bound are shown as `other`."""

    def __init__(self, most: int = MAX_LABEL_VALUES) -> None:
        self._most = most
        self._known: set[str] = set()

    def shown(self, value: str) -> str:
        """Return the value, or `other` if there are too many."""
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        return value


def counter(name: str, description: str, *labels: str) -> Counter:
    """Create a counter; its exposed name ends in `_total`."""
    LABELS[PREFIX + name] = labels
    return Counter(PREFIX + name, description, labels, registry=REGISTRY)


def gauge(name: str, description: str, *labels: str) -> Gauge:
    """Create a gauge."""
    LABELS[PREFIX + name] = labels
    return Gauge(PREFIX + name, description, labels, registry=REGISTRY)


def histogram(name: str, description: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    """Create a histogram of seconds."""
    LABELS[PREFIX + name] = labels
    return Histogram(PREFIX + name, description, labels, registry=REGISTRY, buckets=buckets)


EXECUTIONS = counter("executions", "Executions that ended here, revisions included.", "kind", "status")
EXECUTION_SECONDS = histogram(
    "execution_duration_seconds", "How long executions worked until their end.", "kind", buckets=WORK
)
RUNNING = gauge("executions_running", "Executions that this process runs.")
QUEUE_DEPTH = gauge("queue_depth", "Run trees without an owner, the same in every process.")
QUEUE_WAIT = histogram("queue_wait_seconds", "How long run trees waited until a process took them.", buckets=WAITS)
TAKEOVERS = counter("takeovers", "Run trees that this process took over from one that died.")
MODEL_SECONDS = histogram(
    "model_call_duration_seconds", "How long attempts at model calls took.", "model", "purpose", buckets=WORK
)
MODEL_ERRORS = counter("model_call_errors", "Attempts at model calls that failed.", "model", "code")
TOKENS = counter("tokens", "Tokens that providers reported.", "model", "direction")
COST = counter("cost_usd", "The cost of priced model calls in US dollars.", "model")
CACHE_REQUESTS = counter("cache_requests", "Model requests by the result of the response cache.", "result")
BUDGET_USED = gauge(
    "budget_used_ratio", "The most exhausted budget of each type of scope, the same in every process.", "scope_type"
)
TOOL_CALLS = counter("tool_calls", "Tool calls that have a result.", "source", "outcome")
TOOL_WAIT = histogram("tool_wait_seconds", "How long tool calls waited for a sandbox worker.", buckets=WAITS)
SANDBOX_WORKERS = gauge("sandbox_workers", "Sandbox workers of this process.", "state")
SANDBOX_KILLS = counter("sandbox_kills", "Sandbox workers that were killed or died.", "reason")
COMMIT_SECONDS = histogram("event_commit_seconds", "How long writes of groups of events took.", buckets=MOMENTS)
DELIVERY_SECONDS = histogram(
    "event_delivery_seconds", "The time from an event to its delivery to live subscribers.", buckets=MOMENTS
)
SUBSCRIBERS = gauge("subscribers", "Open event sockets and streams.", "transport")
RESYNCS = counter("stream_resyncs", "Live streams that continued from the database because they fell behind.")
APPROVALS_PENDING = gauge("approvals_pending", "Tool calls that are waiting for a decision, the same in every process.")
WEBHOOK_DELIVERIES = counter("webhook_deliveries", "Attempts to deliver webhooks.", "outcome")
SCHEDULE_LAG = histogram("schedule_lag_seconds", "How late schedules fired.", buckets=WAITS)
HTTP_SECONDS = histogram(
    "http_request_duration_seconds",
    "The time until a response began.",
    *("route", "method", "status"),
    buckets=MOMENTS,
)


def show_from_the_start() -> None:
    """Create every series whose labels are known, so that each is present before its first event."""
    for kind in KINDS:
        EXECUTION_SECONDS.labels(kind)
        for status in ENDS:
            EXECUTIONS.labels(kind, status)
    for source in TOOL_SOURCES:
        for outcome in TOOL_OUTCOMES:
            TOOL_CALLS.labels(source, outcome)
    for metric, values in (
        (CACHE_REQUESTS, CACHE_RESULTS),
        (BUDGET_USED, SCOPE_TYPES),
        (SANDBOX_WORKERS, WORKER_STATES),
        (SANDBOX_KILLS, KILL_REASONS),
        (SUBSCRIBERS, TRANSPORTS),
        (WEBHOOK_DELIVERIES, DELIVERIES),
    ):
        for value in values:
            metric.labels(value)


show_from_the_start()


def exposition() -> bytes:
    """Return all metrics in Prometheus's text format."""
    return generate_latest(REGISTRY)

"""The context of every request: its id, its log line, the limit on its body."""

import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.routers.http.security_headers import add_security_headers
from app.telemetry.metrics import HTTP_SECONDS, OTHER

API_BASE = "/api/v1"
MAX_BODY_BYTES = 1024 * 1024
ACCEPTED_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CROSS_ORIGIN: dict[str, Any] = {
    "allow_methods": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
    "allow_headers": (
        *("Authorization", "X-API-Key", "Content-Type", "X-Request-Id"),
        *("Idempotency-Key", "Prefer", "If-Match", "Last-Event-ID"),
    ),
    "expose_headers": (
        *("Location", "ETag", "X-Request-Id", "Retry-After"),
        *("Idempotency-Replayed", "Preference-Applied"),
    ),
}
"""The methods and headers of pages of other, allowed origins. Keys come in headers, never in cookies."""
ANSWERS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
CLIENT_LEFT = 499
"""The logged status of a request whose client disconnected while sending the body."""
QUIET_PATHS = ("/healthz", "/readyz", "/metrics")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""The methods that metrics name."""

log = structlog.get_logger(__name__)


class BodyTooLarge(HTTPException):
    """The body exceeds the limit. FastAPI treats any other error while it reads a body as malformed input."""

    def __init__(self) -> None:
        super().__init__(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")


class RequestContext:
    """ASGI middleware: binds `requestId` to the log, answers with `X-Request-Id`, writes one line a request.

    `trace_id` returns the id of the request's trace, if there is one, which its log lines then carry.
    """

    def __init__(self, app: ASGIApp, trace_id: Callable[[], str | None] = lambda: None) -> None:
        self._app = app
        self._trace_id = trace_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope))
        structlog.contextvars.clear_contextvars()
        client = scope.get("client")
        structlog.contextvars.bind_contextvars(requestId=request_id, address=client[0] if client else "")
        if (trace_id := self._trace_id()) is not None:
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
        started = time.perf_counter()
        status = 403 if scope["type"] == "websocket" else 500  # the status if the request is refused or crashes

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in ANSWERS:
                if message["type"] != "websocket.accept":
                    add_security_headers(message)
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                status = int(message.get("status", 101))
                if scope["type"] == "http":
                    observe(scope, status, time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, bounded(scope, receive), send_with_id)
        except ClientDisconnect:
            status = CLIENT_LEFT
        finally:
            if scope["path"] not in QUIET_PATHS:
                milliseconds = round((time.perf_counter() - started) * 1000, 1)
                method = scope.get("method", "WEBSOCKET")
                operation = getattr(scope.get("route"), "operation_id", None)
                log.info(
                    "request",
                    method=method,
                    path=scope["path"],
                    operation=operation,
                    status=status,
                    durationMs=milliseconds,
                )


def observe(scope: Scope, status: int, seconds: float) -> None:
    """Count a response that begins by the template of its route; addresses of clients are not labels."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        path = "unmatched"
    elif scope["path"].startswith(f"{API_BASE}/"):
        path = API_BASE + path
    method = scope["method"] if scope["method"] in METHODS else OTHER
    HTTP_SECONDS.labels(path, method, str(status)).observe(seconds)


def request_id_of(headers: Headers) -> str:
    """Return the client's own request id where it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if ACCEPTED_REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"


def bounded(scope: Scope, receive: Receive) -> Receive:
    """Return the receive channel of a request, which refuses a body beyond the bound, announced or not."""
    if scope["type"] != "http":
        return receive
    announced = Headers(scope=scope).get("content-length", "0")
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
            raise BodyTooLarge
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise BodyTooLarge
        return message

    return receive_bounded

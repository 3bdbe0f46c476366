"""Refusals of requests that never reach the application, and the checks of a head."""

import secrets
from enum import Enum
from http import HTTPStatus
from urllib.parse import quote

import orjson

Headers = list[tuple[bytes, bytes]]
MAX_HANDSHAKE_LINE = 8 * 1024 - 2
"""The longest header line, in bytes, that the WebSocket library accepts."""


class Refusal(Enum):
    """Why a request is refused: its status, its code and a sentence."""

    MALFORMED = (HTTPStatus.BAD_REQUEST, "malformed-request", "This is not a valid HTTP/1.1 request.")
    BAD_HOST = (HTTPStatus.BAD_REQUEST, "malformed-request", "A request must have exactly one Host header.")
    BAD_HANDSHAKE = (
        HTTPStatus.BAD_REQUEST,
        "malformed-request",
        "A WebSocket handshake must be an HTTP/1.1 GET without a body, with at most 128 headers of 8 KiB each.",
    )
    HEAD_TOO_LARGE = (431, "request-header-fields-too-large", "The request line and headers must not exceed 64 KiB.")
    TOO_MANY_HEADERS = (431, "request-header-fields-too-large", "A request must not have more than 128 headers.")
    TOO_SLOW = (HTTPStatus.REQUEST_TIMEOUT, "request-timeout", "The request did not arrive in time.")
    FULL = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too-many-connections",
        "The server has reached its limit of connections. Try again later.",
    )

    def answer(self, url: bytes) -> bytes:
        """Return the bytes of the response, after which the connection closes."""
        status, code, detail = self.value
        phrase = HTTPStatus(status).phrase
        problem = {
            "type": f"/docs/errors/{code}",
            "title": phrase,
            "status": int(status),
            "detail": detail,
            "instance": quote(url.partition(b"?")[0][:1000] or b"/"),
            "code": code,
        }
        body = orjson.dumps(problem)
        retry = "Retry-After: 2\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {int(status)} {phrase}\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n{retry}"
            f"X-Request-Id: req_{secrets.token_hex(8)}\r\n\r\n"
        )
        return head.encode() + body


MALFORMED = Refusal.MALFORMED


class Refused(Exception):
    """A refusal raised in the parser's callbacks."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


def refusal_behind(error: Exception) -> Refusal:
    """Return the refusal that a callback raised, else that of a malformed request."""
    cause = error.__context__
    return cause.refusal if isinstance(cause, Refused) else MALFORMED


def forget_frames(error: BaseException | None) -> None:
    """Drop the frames that an error and its causes refer to, which may refer to the error."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def refuse_bad_host(headers: Headers, version: str) -> None:
    """Require exactly one `Host` header, which is optional in HTTP/1.0.

    Raises:
        Refused: the header is missing or repeated.
    """
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts != 1 and (hosts or version != "1.0"):
        raise Refused(Refusal.BAD_HOST)


def refuse_bad_handshake(method: bytes, version: str, url: bytes, headers: Headers, at_most: int) -> None:
    """Refuse handshakes that the WebSocket library does not answer.

    Raises:
        Refused: the request is not an HTTP/1.1 GET, has a body, or has a header beyond the library's bounds.
    """
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )
    longest = max((len(name) + len(value) + 2 for name, value in headers), default=0)
    if method != b"GET" or version != "1.1" or has_body or longest > MAX_HANDSHAKE_LINE or not url.isascii():
        raise Refused(Refusal.BAD_HANDSHAKE)
    if len(headers) > at_most or len(url) > MAX_HANDSHAKE_LINE - len(b"GET  HTTP/1.1"):
        raise Refused(Refusal.BAD_HANDSHAKE)

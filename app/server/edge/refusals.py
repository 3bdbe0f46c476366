"""What is answered to requests that never reach the application, and the looks at a head that find them."""

import secrets
from enum import Enum
from http import HTTPStatus
from urllib.parse import quote

import orjson

Headers = list[tuple[bytes, bytes]]
MAX_HANDSHAKE_LINE = 8 * 1024 - 2
"""What the WebSocket library takes as a header's line."""


class Refusal(Enum):
    """Why a request is refused: its status, its code and a sentence."""

    MALFORMED = (HTTPStatus.BAD_REQUEST, "malformed-request", "This is not a valid HTTP/1.1 request.")
    BAD_HOST = (HTTPStatus.BAD_REQUEST, "malformed-request", "A request has exactly one Host header.")
    BAD_HANDSHAKE = (
        HTTPStatus.BAD_REQUEST,
        "malformed-request",
        "A WebSocket handshake is a GET of HTTP/1.1 without a body, with at most 128 headers of 8 KiB each.",
    )
    HEAD_TOO_LARGE = (431, "request-header-fields-too-large", "Request line and headers have 64 KiB together at most.")
    TOO_MANY_HEADERS = (431, "request-header-fields-too-large", "A request has at most 128 headers.")
    TOO_SLOW = (HTTPStatus.REQUEST_TIMEOUT, "request-timeout", "The request did not come in time.")
    FULL = (HTTPStatus.SERVICE_UNAVAILABLE, "too-many-connections", "There are as many connections as may be.")

    def answer(self, url: bytes) -> bytes:
        """The answer in bytes, after which the connection closes."""
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
    """Raised inside the parser's callbacks."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


def refuse_bad_host(headers: Headers, version: str) -> None:
    """Look for exactly one `Host`; HTTP/1.0 may do without.

    Raises:
        Refused: there is none, or there are several.
    """
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts != 1 and (hosts or version != "1.0"):
        raise Refused(Refusal.BAD_HOST)


def refuse_bad_handshake(method: bytes, version: str, url: bytes, headers: Headers, at_most: int) -> None:
    """Look for what the WebSocket library has no answer to.

    Raises:
        Refused: it is no GET of HTTP/1.1, has a body, or a header beyond the library's bounds.
    """
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )
    longest = max((len(name) + len(value) + 2 for name, value in headers), default=0)
    if method != b"GET" or version != "1.1" or has_body or longest > MAX_HANDSHAKE_LINE or not url.isascii():
        raise Refused(Refusal.BAD_HANDSHAKE)
    if len(headers) > at_most or len(url) > MAX_HANDSHAKE_LINE - len(b"GET  HTTP/1.1"):
        raise Refused(Refusal.BAD_HANDSHAKE)

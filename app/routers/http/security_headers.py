"""Default headers of every response: no sniffing, no framing, no caching."""

from starlette.types import Message

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def add_security_headers(answer: Message) -> None:
    """Add the headers that the start of a response does not have yet."""
    headers = list(answer.get("headers", ()))
    present = {name for name, _ in headers}
    answer["headers"] = [*headers, *(header for header in SECURITY_HEADERS if header[0] not in present)]

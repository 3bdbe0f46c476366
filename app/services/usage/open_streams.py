"""Limits on open event sockets and streams, per process and per key, because each holds memory while it is open."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus

from app.errors import AppError


class TooManyStreams(AppError):
    """The maximum number of sockets and streams is open."""

    code = "too-many-streams"
    status = HTTPStatus.TOO_MANY_REQUESTS
    retry_after_seconds = 5


class OpenStreams:
    """Counts the sockets and streams of this process."""

    def __init__(self, in_all: int, per_key: int) -> None:
        self._in_all, self._per_key = in_all, per_key
        self._open: Counter[str] = Counter()

    def ensure_room(self, key: str) -> None:
        """Check that another stream may open.

        Raises:
            TooManyStreams: the key or the process has reached its limit.
        """
        if self._open[key] >= self._per_key:
            raise TooManyStreams(
                f"A key may have at most {self._per_key} event sockets and streams open. Close some of them."
            )
        if self._open.total() >= self._in_all:
            raise TooManyStreams(
                f"The service keeps at most {self._in_all} event sockets and streams open. Try again later."
            )

    @contextmanager
    def one(self, key: str) -> Generator[None]:
        """Count a stream as open while the context lasts.

        Raises:
            TooManyStreams: the key or the process has reached its limit.
        """
        self.ensure_room(key)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

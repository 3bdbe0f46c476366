"""How many event sockets and streams are open, in all and for each key: each costs memory for as long as it lasts."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus

from app.errors import AppError


class TooManyStreams(AppError):
    """There are as many sockets and streams as may be."""

    code = "too-many-streams"
    status = HTTPStatus.TOO_MANY_REQUESTS
    retry_after_seconds = 5


class OpenStreams:
    """Counts the sockets and streams of this process."""

    def __init__(self, in_all: int, per_key: int) -> None:
        self._in_all, self._per_key = in_all, per_key
        self._open: Counter[str] = Counter()

    def ensure_room(self, key: str) -> None:
        """Refuse another one where there is no room.

        Raises:
            TooManyStreams: this key, or all together, have as many as they may.
        """
        if self._open[key] >= self._per_key:
            raise TooManyStreams(f"A key may have {self._per_key} event sockets and streams open; close some.")
        if self._open.total() >= self._in_all:
            raise TooManyStreams(f"The service keeps {self._in_all} event sockets and streams open; try again later.")

    @contextmanager
    def one(self, key: str) -> Generator[None]:
        """Count one for as long as the context lasts.

        Raises:
            TooManyStreams: there is no room.
        """
        self.ensure_room(key)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

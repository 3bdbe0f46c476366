"""Live text at a pace that a reader can follow: faster deltas are joined."""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from app.events.types import AgentDelta

PACE_SECONDS = 0.05
MAX_PENDING_CHARACTERS = 64 * 1024

Stream = TypeVar("Stream", bound=Hashable)


def discard(_stream: object, _delta: AgentDelta) -> None:
    """Send nothing: the pacer has stopped."""


class DeltaPacer(Generic[Stream]):
    """Joins the text of each execution and sends one delta every 50 milliseconds, at most 20 per second.

    Where several streams share the pace, they take turns, and the text of each is joined by itself.
    """

    def __init__(self, give: Callable[[Stream, AgentDelta], None]) -> None:
        self._give = give
        self._pending: dict[tuple[Stream, str], AgentDelta] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: Stream, delta: AgentDelta) -> None:
        """Send a delta at once if none was sent lately; otherwise join it with those that follow until its turn."""
        key = (stream, delta.execution_id)
        earlier = self._pending.get(key)
        if earlier:
            text = (earlier.text + delta.text)[-MAX_PENDING_CHARACTERS:]
            self._pending[key] = earlier.model_copy(update={"text": text})
        else:
            self._pending[key] = delta
        if self._timer is None:
            self._let_one_go()

    def flush(self, stream: Stream, execution_ids: Iterable[str]) -> None:
        """Send the pending text of executions whose next event is about to be delivered."""
        for execution_id in execution_ids:
            if delta := self._pending.pop((stream, execution_id), None):
                self._give(stream, delta)

    def forget(self, stream: Stream) -> None:
        """Discard the pending text of a stream."""
        self._pending = {key: delta for key, delta in self._pending.items() if key[0] != stream}

    def stop(self) -> None:
        """Stop sending, and forget the receiver, which refers to this pacer."""
        self._give = discard
        self._pending.clear()
        if self._timer:
            self._timer.cancel()

    def _let_one_go(self) -> None:
        self._timer = None
        if self._pending:
            key = next(iter(self._pending))
            self._give(key[0], self._pending.pop(key))
            self._timer = asyncio.get_running_loop().call_later(PACE_SECONDS, self._let_one_go)

"""Live text at a pace that a reader can follow: what comes faster is joined."""

import asyncio
from collections.abc import Callable

from app.events.types import AgentDelta

PACE_SECONDS = 0.05
MAX_PENDING_CHARACTERS = 64 * 1024


class DeltaPacer:
    """Joins the text of each execution and lets one delta go every 50 milliseconds: 20 a second at most."""

    def __init__(self, give: Callable[[list[AgentDelta]], None]) -> None:
        self._give = give
        self._pending: dict[str, AgentDelta] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, delta: AgentDelta) -> None:
        """Let a delta go at once when none went lately, else with what comes until it is its turn."""
        earlier = self._pending.get(delta.execution_id)
        if earlier:
            text = (earlier.text + delta.text)[-MAX_PENDING_CHARACTERS:]
            self._pending[delta.execution_id] = earlier.model_copy(update={"text": text})
        else:
            self._pending[delta.execution_id] = delta
        if self._timer is None:
            self._let_one_go()

    def flush(self, execution_ids: set[str]) -> None:
        """Let go what is pending of executions whose next event is about to be given."""
        for execution_id in execution_ids & self._pending.keys():
            self._give([self._pending.pop(execution_id)])

    def stop(self) -> None:
        """Let nothing more go."""
        self._pending.clear()
        if self._timer:
            self._timer.cancel()

    def _let_one_go(self) -> None:
        self._timer = None
        if self._pending:
            self._give([self._pending.pop(next(iter(self._pending)))])
            self._timer = asyncio.get_running_loop().call_later(PACE_SECONDS, self._let_one_go)

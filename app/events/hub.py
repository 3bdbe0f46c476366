"""Following a run: subscribe, then replay, then live, so that nothing is lost or doubled between the two."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.errors import AppError
from app.events.bus import Committed, Ending, EventBus, Follower
from app.events.replay import PAGE_ROWS, StreamHead, frames_of, read_events, read_head
from app.events.types import AgentDelta, Frame
from app.models.database import Database


class EventsMissing(AppError):
    """Somebody removed stored events of a finished run; the stream says so rather than to skip them."""

    code = "events-missing"

    def __init__(self, head: StreamHead, after: int) -> None:
        super().__init__(
            f"Execution {head.execution_id} ended with event {head.last_seq}, but what follows event {after} is no "
            "longer in the database."
        )


@dataclass(frozen=True)
class EventHub:
    """Gives each subscriber the events of a stream in order, once, whatever was committed meanwhile."""

    database: Database
    bus: EventBus

    async def head(self, execution_id: str) -> StreamHead:
        """Where the stream stands now.

        Raises:
            ExecutionNotFound: no execution has this id.
        """
        return await read_head(self.database, execution_id)

    async def follow(
        self, head: StreamHead, after: int, *, deltas: bool = False
    ) -> AsyncIterator[Frame | AgentDelta | Ending]:
        """Every event of the stream after number `after`; its `Ending` comes last, also for who comes late.

        The buffer of live commits is opened before the database is read, so a commit falls into the replay, into
        the buffer, or into both, and numbers tell which were seen.
        """
        with self.bus.follow(head.root_id, deltas=deltas) as follower:
            while True:
                head = await self.head(head.execution_id)
                async for frame in self._replay(head, after):
                    after = frame.seq
                    yield frame
                if head.status.is_terminal:
                    if after < head.last_seq:
                        raise EventsMissing(head, after)
                    yield Ending(head.execution_id, head.status, head.last_seq)
                    return
                async for item in live(follower, head, after):
                    yield item
                    if isinstance(item, Ending):
                        return
                    if isinstance(item, Frame):
                        after = item.seq
                follower.clear()

    async def _replay(self, head: StreamHead, after: int) -> AsyncIterator[Frame]:
        """What is stored after `after`, page by page, up to what can be read without a gap."""
        while after < head.last_seq:
            frames = frames_of(await read_events(self.database, head, after))
            for frame in frames:
                yield frame
            if len(frames) < PAGE_ROWS:
                return
            after = frames[-1].seq


async def live(follower: Follower, head: StreamHead, after: int) -> AsyncIterator[Frame | AgentDelta | Ending]:
    """What is committed from now on; returns when the buffer missed something and the database must be read."""
    while not follower.missed:
        for message in await follower.take():
            if follower.missed:
                return
            for item in items_of(message, head):
                if isinstance(item, Frame):
                    if item.seq <= after:
                        continue
                    if head.is_tree and item.seq > after + 1:
                        return
                    after = item.seq
                yield item


def items_of(message: Committed | AgentDelta, head: StreamHead) -> list[Frame | AgentDelta | Ending]:
    """What a message holds for the stream, in order."""
    if isinstance(message, AgentDelta):
        return [message] if head.is_tree or message.execution_id == head.execution_id else []
    frames = [frame for frame in message.frames if head.is_tree or frame.execution_id == head.execution_id]
    return [*frames, *(ending for ending in message.endings if ending.execution_id == head.execution_id)]

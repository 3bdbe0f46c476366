"""The hub of a process: each subscriber receives each event once and in order."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from app.database.connection import Database
from app.events.archive.reader import Archives
from app.events.replay import StreamHead, read_head
from app.events.stream.broadcaster import Subscription, TreeBroadcaster, replay
from app.events.stream.bus import Ending, EventBus, Moved, reports_end
from app.events.stream.encoding import Failure
from app.events.stream.shared_reads import SharedReads
from app.events.stream.sinks import QueueSink
from app.events.stream.tree_state import has_ended
from app.events.types import AgentDelta, Frame


@dataclass
class EventHub:
    """The broadcasters of this process, one for each tree with followers."""

    database: Database
    bus: EventBus
    archives: Archives | None = None
    _reads: SharedReads = field(init=False)
    _broadcasters: dict[str, TreeBroadcaster] = field(default_factory=dict[str, TreeBroadcaster], init=False)
    _stopping: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]], init=False)

    def __post_init__(self) -> None:
        self._reads = SharedReads(self.database)

    async def head(self, execution_id: str) -> StreamHead:
        """Return the current state of a stream.

        Raises:
            ExecutionNotFound: no execution has this id.
        """
        return await read_head(self.database, execution_id, self.archives)

    async def wait_for_end(self, root_id: str) -> None:
        """Wait until a root has ended, in any process, without reading its events.

        Raises:
            ExecutionNotFound: it was removed.
            PyMongoError: the database is unavailable.
        """
        with self.bus.follow(root_id) as buffer:
            while not await has_ended(self.database, root_id):
                messages = await buffer.take()
                while not (buffer.missed or any(isinstance(one, Moved) for one in messages)):
                    if any(reports_end(one, root_id) for one in messages):
                        return
                    messages = await buffer.take()
                if buffer.missed:
                    buffer.clear()

    def subscribe(self, subscription: Subscription) -> None:
        """Deliver every event after the subscription's number to its sink, then its `Ending`, or a `Failure`.

        What was stored before the subscription's head was read is replayed; what is committed later comes through
        the broadcaster of its tree, or from the database when the bus missed it.
        """
        head = subscription.head
        if head.status.is_terminal:
            subscription.ending = Ending(head.execution_id, head.status, head.last_seq)
            subscription.task = asyncio.create_task(replay(subscription, self._reads), name="replay")
            return
        broadcaster = self._broadcasters.get(head.root_id)
        if broadcaster is None:
            broadcaster = TreeBroadcaster(self.bus, self._reads, replace(head, execution_id=head.root_id), self._drop)
            self._broadcasters[head.root_id] = broadcaster
            broadcaster.start()
        broadcaster.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop delivering to a subscription at once."""
        broadcaster = self._broadcasters.get(subscription.head.root_id)
        if broadcaster:
            broadcaster.remove(subscription)
            if broadcaster.is_idle:
                self._drop(broadcaster)
                stopping = asyncio.create_task(broadcaster.stop(), name="stop broadcaster")
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)
        elif subscription.task:
            subscription.task.cancel()
            subscription.task = None  # its cancellation refers to this subscription

    def _drop(self, broadcaster: TreeBroadcaster) -> None:
        """Let the next subscription of the tree start a new broadcaster."""
        if self._broadcasters.get(broadcaster.tree.root_id) is broadcaster:
            del self._broadcasters[broadcaster.tree.root_id]

    async def follow(
        self, head: StreamHead, after: int, *, deltas: bool = False
    ) -> AsyncGenerator[Frame | AgentDelta | Ending]:
        """Yield every event of the stream after number `after`, at the reader's pace, then its `Ending`.

        Raises:
            EventsMissing: stored events of the run have been removed.
            ExecutionNotFound: the run has been removed.
        """
        sink = QueueSink()
        subscription = Subscription(head, after, sink, deltas=deltas)
        self.subscribe(subscription)
        try:
            async with aclosing(sink.batches()) as batches:
                async for batch in batches:
                    for item in batch.items:
                        if isinstance(item, Failure):
                            raise item.error
                        yield item
                        if isinstance(item, Ending):
                            return
        finally:
            self.unsubscribe(subscription)

"""The broadcaster of one run tree: it reads the bus once and hands the same bytes to every subscription of the process.

A subscription first catches up with the database at its reader's pace, then joins the broadcaster. A subscription
whose reader falls behind leaves and catches up again, so it delays no other reader and costs bounded memory.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog
from pymongo.errors import PyMongoError

from app.errors import AppError
from app.events.replay import StreamHead
from app.events.stream.bus import BusBuffer, Committed, Ending, EventBus, Message, Moved
from app.events.stream.delta_pacer import DeltaPacer
from app.events.stream.encoding import Batch, Failure, batches_of
from app.events.stream.shared_reads import BATCH_BYTES, SharedReads
from app.events.stream.sinks import Sink
from app.events.stream.tree_state import read_state
from app.events.types import AgentDelta, Frame
from app.kit.concurrency import end_tasks
from app.telemetry.metrics import DELIVERY_SECONDS, RESYNCS

RECENT_BYTES = 512 * 1024
PAUSE_SECONDS = 0.3
MISSING_LOOKS = 10
"""The number of reads after which a missing event counts as removed; the first may have preceded its storage."""

log = structlog.get_logger(__name__)


class EventsMissing(AppError):
    """Stored events of a run were removed; the stream reports that instead of skipping them."""

    code = "events-missing"

    def __init__(self, execution_id: str, last_seq: int, after: int) -> None:
        super().__init__(
            f"Execution {execution_id} has reached event {last_seq}, but the event after {after} is no longer in the "
            "database."
        )


class StreamBroken(AppError):
    """A bug in the service ended a stream."""

    code = "stream-broken"

    def __init__(self) -> None:
        super().__init__("The stream ended because of a bug in the service; its log has the details. Subscribe again.")


@dataclass(eq=False, slots=True)
class Subscription:
    """One reader of one stream; every event up to number `after` has been delivered to it."""

    head: StreamHead
    after: int
    sink: Sink
    deltas: bool = False
    pacer: "DeltaPacer[Subscription] | None" = None
    """The pacer of live text, shared with other subscriptions of the same reader."""
    ending: Ending | None = None
    on_end: Callable[[], None] | None = None
    is_live: bool = False
    is_over: bool = False
    task: asyncio.Task[None] | None = None

    def give(self, batch: Batch) -> None:
        """Deliver the batch's frames of this stream that follow `after`."""
        if batch.first_seq <= self.after:
            batch = batch.after(self.after)
        own = batch if self.head.covers_tree else batch.by_execution.get(self.head.execution_id)
        if own is not None and own.items:
            if self.pacer:
                self.pacer.flush(self, own.by_execution)
            self.sink.send(own)
        self.after = max(self.after, batch.last_seq)

    def show(self, batch: Batch, delta: AgentDelta) -> None:
        """Deliver live text, alone in its batch, if the reader wants it and is not behind with events."""
        wanted = self.deltas and (self.head.covers_tree or self.head.execution_id == delta.execution_id)
        if wanted and not self.sink.is_full:
            if self.pacer:
                self.pacer.add(self, delta)
            else:
                self.sink.send(batch)

    def end_if_over(self) -> bool:
        """Deliver the end of the execution once all its events were delivered; return whether it was."""
        if self.ending is None or self.after < self.ending.last_seq:
            return False
        self._finish(Batch([self.ending]))
        return True

    def fail(self, error: AppError) -> None:
        """Report why the stream cannot continue."""
        self._finish(Batch([Failure(self.head.execution_id, error)]))

    def _finish(self, last: Batch) -> None:
        self.is_over, self.is_live = True, False
        self.sink.send(last)
        if self.on_end:
            self.on_end()


async def replay(subscription: Subscription, reads: SharedReads) -> None:
    """Deliver a finished stream from the database or its archive; an archive that is unreadable fails it."""
    try:
        while not subscription.end_if_over():
            await subscription.sink.drained()
            await give_page(subscription, reads, known=0)
    except AppError as error:
        subscription.fail(error)


async def give_page(subscription: Subscription, reads: SharedReads, *, known: int) -> bool:
    """Send a page of stored events, and return whether it was the last. Waits while the database is unavailable."""
    try:
        page = await reads.page(subscription.head, subscription.after, known)
    except PyMongoError as error:
        log.warning("stream-interrupted", error=type(error).__name__)
        await asyncio.sleep(PAUSE_SECONDS)
        return False
    for batch in page.batches:
        await subscription.sink.drained()
        subscription.sink.send(batch)
        subscription.after = batch.last_seq
    ending = subscription.ending
    if ending and not page.frames and subscription.after < ending.last_seq:
        subscription.fail(EventsMissing(subscription.head.execution_id, ending.last_seq, subscription.after))
    return page.is_last


@dataclass
class GapRetry:
    """Counts the unsuccessful reads of a stream's next event, which should be in the database."""

    execution_id: str
    _after: int = -1
    _looks: int = 0

    def lose(self, after: int, last_seq: int) -> None:
        """Note that the event after `after` is missing although the tree has reached `last_seq`.

        Raises:
            EventsMissing: it was missing too many times.
        """
        self._looks = self._looks + 1 if after == self._after else 1
        self._after = after
        if self._looks >= MISSING_LOOKS:
            raise EventsMissing(self.execution_id, last_seq, after)


@dataclass(eq=False)
class TreeBroadcaster:
    """Follows a tree for its subscriptions in this process, from the first to the last of them."""

    bus: EventBus
    reads: SharedReads
    tree: StreamHead
    on_broken: Callable[["TreeBroadcaster"], None]
    """Called once, after the broadcaster has failed and its subscriptions have received the error."""
    position: int = 0
    """The number up to which every event has been delivered to the live subscriptions."""
    _live: dict[Subscription, None] = field(default_factory=dict[Subscription, None])
    _joining: set[Subscription] = field(default_factory=set[Subscription])
    _recent: deque[Frame] = field(default_factory=deque[Frame])
    _recent_bytes: int = 0
    _endings: dict[str, Ending] = field(default_factory=dict[str, Ending])
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _buffer: BusBuffer | None = None
    _deltas: DeltaPacer[None] = field(init=False)
    _pump_task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._deltas = DeltaPacer[None](self._show)

    def start(self) -> None:
        """Start to follow the tree."""
        self._pump_task = asyncio.create_task(self._run(), name=f"broadcaster {self.tree.root_id}")

    async def stop(self) -> None:
        """Stop following, once no subscription is left."""
        self._deltas.stop()
        await end_tasks(self._pump_task)
        self._pump_task = None  # its cancellation refers to this broadcaster

    @property
    def is_idle(self) -> bool:
        """Whether no subscription is left."""
        return not self._live and not self._joining

    def add(self, subscription: Subscription) -> None:
        """Add a subscription, which catches up first."""
        if subscription.deltas and self._buffer:
            self.bus.ask_for_deltas(self._buffer)
        self._catch_up_again(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription; it receives nothing more."""
        subscription.is_over, subscription.is_live = True, False
        self._live.pop(subscription, None)
        self._joining.discard(subscription)
        if subscription.task:
            subscription.task.cancel()
        if subscription.deltas and self._buffer:
            self._buffer.deltas = any(one.deltas for one in (*self._live, *self._joining))

    def _catch_up_again(self, subscription: Subscription) -> None:
        subscription.is_live = False
        self._live.pop(subscription, None)
        self._joining.add(subscription)
        subscription.task = asyncio.create_task(self._catch_up(subscription), name="catch up")

    async def _catch_up(self, subscription: Subscription) -> None:
        """Let a subscription join; any error is sent to its reader."""
        try:
            await self._give_until_joined(subscription)
        except AppError as error:
            subscription.fail(error)
        except Exception:
            log.exception("catch-up-crashed", root=self.tree.root_id)
            subscription.fail(StreamBroken())
        finally:
            self._joining.discard(subscription)
            subscription.task = None

    async def _give_until_joined(self, subscription: Subscription) -> None:
        """Deliver stored events until there is no gap to the live ones, then join the broadcaster."""
        await self._ready.wait()
        subscription.ending = self._endings.get(subscription.head.execution_id)
        gap_retry = GapRetry(subscription.head.execution_id)
        while not subscription.is_over:
            await subscription.sink.drained()
            if self._join(subscription) or subscription.end_if_over():
                break
            known = self.position
            if await give_page(subscription, self.reads, known=0 if subscription.head.covers_tree else known):
                if not subscription.head.covers_tree:
                    subscription.after = max(subscription.after, known)
                elif subscription.after < known:
                    gap_retry.lose(subscription.after, known)
                    await asyncio.sleep(PAUSE_SECONDS)

    def _join(self, subscription: Subscription) -> bool:
        """Join the broadcaster if there is no gap, or only one that the remembered frames fill."""
        missing = self.position - subscription.after
        if missing > 0:
            if not self._recent or self._recent[0].seq > subscription.after + 1:
                return False
            for batch in batches_of([one for one in self._recent if one.seq > subscription.after], BATCH_BYTES):
                subscription.give(batch)
        subscription.is_live = True
        if not subscription.end_if_over():
            self._live[subscription] = None
        return True

    async def _run(self) -> None:
        """Follow the tree; an error ends the subscriptions rather than leaving them to wait."""
        try:
            await self._follow()
        except AppError as error:
            self._fail(error)
        except Exception:
            log.exception("broadcaster-crashed", root=self.tree.root_id)
            self._fail(StreamBroken())

    def _fail(self, error: AppError) -> None:
        self._deltas.stop()
        self.on_broken(self)
        for subscription in [*self._live, *self._joining]:
            subscription.fail(error)

    async def _follow(self) -> None:
        """Read the bus and deliver its messages while there are subscriptions."""
        with self.bus.follow(self.tree.root_id, foreign=self.tree.is_foreign) as buffer:
            self._buffer = buffer
            if any(one.deltas for one in self._joining):
                self.bus.ask_for_deltas(buffer)
            self.position = await self._begin()
            self._ready.set()
            while True:
                messages = await buffer.take()
                missed = buffer.missed
                if missed:
                    RESYNCS.inc()
                    buffer.clear()
                if missed or self._hear(messages):
                    await self._read_on()

    def _hear(self, messages: list[Message]) -> bool:
        """Deliver frames that follow without a gap; return whether others must be read from the database."""
        frames: list[Frame] = []
        endings: list[Ending] = []
        expected, behind = self.position + 1, False
        for message in messages:
            match message:
                case AgentDelta():
                    self._deltas.add(None, message)
                case Moved():
                    behind = behind or message.last_seq >= expected or self.tree.is_foreign
                case Committed():
                    for frame in message.frames:
                        if frame.seq == expected:
                            frames.append(frame)
                            expected += 1
                        behind = behind or frame.seq > expected
                    endings += message.endings
        self._give(frames)
        if frames and self._live and (appended_at := frames[-1].appended_at) is not None:
            DELIVERY_SECONDS.observe(max(time.time() - appended_at, 0))
        self._end([ending for ending in endings if ending.last_seq <= self.position])
        return behind

    def _give(self, frames: list[Frame]) -> None:
        """Deliver frames to all live subscriptions; one with a full sink leaves the broadcaster."""
        if not frames:
            return
        self._deltas.flush(None, {frame.execution_id for frame in frames})
        self._remember(frames)
        for batch in batches_of(frames, BATCH_BYTES):
            self.position = batch.last_seq
            for subscription in list(self._live):
                if subscription.sink.is_full:
                    RESYNCS.inc()
                    self._catch_up_again(subscription)
                else:
                    subscription.give(batch)

    def _remember(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._recent.append(frame)
            self._recent_bytes += len(frame.data)
        while self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft().data)

    def _end(self, endings: list[Ending]) -> None:
        """Report ended executions to the subscriptions, including those that catch up."""
        for ending in endings:
            self._endings[ending.execution_id] = ending
            for subscription in [*self._live, *self._joining]:
                if subscription.head.execution_id == ending.execution_id:
                    subscription.ending = ending
                    if subscription.is_live and subscription.end_if_over():
                        self._live.pop(subscription, None)

    def _show(self, _: None, delta: AgentDelta) -> None:
        batch = Batch([delta])
        for subscription in self._live:
            subscription.show(batch, delta)

    async def _begin(self) -> int:
        """Return how far the tree is stored, and its ended executions. Waits while the database is unavailable."""
        while True:
            try:
                state = await read_state(self.reads.database, self.tree)
            except PyMongoError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                self._endings = {ending.execution_id: ending for ending in state.endings}
                return state.last_seq

    async def _read_on(self) -> None:
        """Send the events that the bus did not deliver, from the database.

        Raises:
            EventsMissing: the next event was removed.
            ExecutionNotFound: the run was removed.
        """
        gap_retry = GapRetry(self.tree.execution_id)
        while True:
            began_at = self.position
            try:
                state = await read_state(self.reads.database, self.tree)
                tree = replace(self.tree, last_seq=state.last_seq)
                while self.position < state.last_seq:
                    page = await self.reads.page(tree, self.position, state.last_seq)
                    if not page.frames:
                        break
                    self._give([frame for frame in page.frames if frame.seq > self.position])
            except PyMongoError as error:
                log.warning("broadcaster-interrupted", error=type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._end([ending for ending in state.endings if ending.last_seq <= self.position])
            if self.position > max(state.last_seq, began_at):
                continue  # the page was read after the state, which may lack the ending
            if self.position >= state.last_seq:
                return
            gap_retry.lose(self.position, state.last_seq)
            await asyncio.sleep(PAUSE_SECONDS)

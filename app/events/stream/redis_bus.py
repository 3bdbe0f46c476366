"""The bus between processes: Redis carries "this tree is now at that number", with the frames as a shortcut.

Redis carries wake-ups and nothing depends on it. Publishing never waits and never fails: a message that cannot be sent
is dropped. A receiver notices that by the numbers, or when it polls the heads, and reads MongoDB. Each process
sends itself a heartbeat through Redis; while that does not come back, heads are polled as often as without Redis.

Redis is not trusted either: every message carries a signature whose key is in MongoDB, and one without it is dropped.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import orjson
import structlog
from redis.asyncio.client import PubSub

from app.events.stream.bus import POLL_SECONDS, BusBuffer, Committed, Ending, InProcessBus, Moved
from app.events.stream.signatures import MessageSigner
from app.events.types import AgentDelta, Frame
from app.kit.concurrency import end_tasks
from app.kit.redis import ANSWER_SECONDS, REDIS_ERRORS, redis_client
from app.models.agent_execution import ExecutionStatus

PREFIX = "dynamic-agents:events:"
WISHES = f"{PREFIX}wishes"
MAX_QUEUED = 10_000
MAX_SENT_TOGETHER = 200
MAX_MESSAGE_BYTES = 256 * 1024
HEARTBEAT_SECONDS = 0.3
HEALTHY_SECONDS = 1.0
HEALTHY_POLL_SECONDS = 1.5
SILENCE_SECONDS = 2.0
PAUSE_SECONDS = 0.3
WISH_SECONDS = 30.0
WISH_AGAIN_SECONDS = 5.0
MAX_WISHES = 10_000

log = structlog.get_logger(__name__)


class RedisBus(InProcessBus):
    """An in-process bus that also exchanges commits with other processes."""

    def __init__(self, url: str, signer: MessageSigner) -> None:
        super().__init__()
        self._signer = signer
        self._refused = 0
        self._redis = redis_client(url)
        self._origin = secrets.token_hex(8)
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(MAX_QUEUED)
        self._pubsub: PubSub | None = None
        self._subscribed: set[str] = set()
        self._changed = asyncio.Event()
        self._wishes: dict[str, float] = {}
        self._heard_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    @property
    def is_healthy(self) -> bool:
        """Whether this process receives its own messages through Redis."""
        return asyncio.get_running_loop().time() - self._heard_at < HEALTHY_SECONDS

    @property
    def poll_seconds(self) -> float:
        """The longest time for which commits of other processes may go unnoticed."""
        return HEALTHY_POLL_SECONDS if self.is_healthy else POLL_SECONDS

    async def start(self) -> None:
        """Start sending and listening; Redis may be unavailable."""
        jobs = {"send": self._send(), "listen": self._listen(), "beat": self._beat(), "subscribe": self._subscribe()}
        self._tasks = [asyncio.create_task(job, name=f"redis {name}") for name, job in jobs.items()]

    async def stop(self) -> None:
        """Stop sending and listening. redis-py may swallow a cancellation, so the loops check a flag as well."""
        self._stopped = True
        self._changed.set()
        await end_tasks(*self._tasks)
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.aclose()

    def publish(self, committed: Committed) -> None:
        """Pass a message to the tree's buffers in this process, then to other processes."""
        super().publish(committed)
        self._enqueue(PREFIX + committed.root_id, encode(committed, self._origin))

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text on; other processes receive it only if one of their subscribers wants it."""
        super().publish_delta(delta)
        if self._is_wished(delta.root_execution_id):
            text = delta.model_dump_json(by_alias=True).encode()
            self._enqueue(PREFIX + delta.root_execution_id, orjson.dumps({"origin": self._origin}) + b"\n" + text)

    def wants_deltas(self, root_id: str) -> bool:
        """Return whether a follower of the tree wants live text, in this or another process."""
        return super().wants_deltas(root_id) or self._is_wished(root_id)

    def may_be_followed(self, root_id: str) -> bool:
        """Return whether the tree may have followers; those of other processes are unknown."""
        return True

    def ask_for_deltas(self, buffer: BusBuffer) -> None:
        """Pass live text to the buffer too, from now on, including that of other processes."""
        super().ask_for_deltas(buffer)
        self._wish(buffer.root_id)

    @contextmanager
    def follow(self, root_id: str, *, foreign: bool = False) -> Generator[BusBuffer]:
        """Open a buffer that receives the tree's commits from now on."""
        with super().follow(root_id, foreign=foreign) as buffer:
            self._changed.set()
            try:
                yield buffer
            finally:
                self._changed.set()

    def _is_wished(self, root_id: str) -> bool:
        return self._wishes.get(root_id, 0.0) > asyncio.get_running_loop().time()

    def _wish(self, root_id: str) -> None:
        self._enqueue(WISHES, orjson.dumps({"origin": self._origin, "root": root_id}))

    def _enqueue(self, channel: str, message: bytes) -> None:
        """Queue a message; after a long outage of Redis it is dropped, and other processes read the database."""
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait((channel, self._signer.sign(channel, message)))

    async def _send(self) -> None:
        """Send queued messages in batches."""
        while not self._stopped:
            messages = [await self._queue.get()]
            while not self._queue.empty() and len(messages) < MAX_SENT_TOGETHER:
                messages.append(self._queue.get_nowait())
            try:
                async with asyncio.timeout(ANSWER_SECONDS), self._redis.pipeline(transaction=False) as pipeline:
                    for channel, message in messages:
                        pipeline.publish(channel, message)
                    await pipeline.execute()
            except REDIS_ERRORS as error:
                log.debug("redis-publish-failed", error=type(error).__name__, count=len(messages))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _beat(self) -> None:
        """Send this process a heartbeat through Redis, and repeat its requests to other processes."""
        loop = asyncio.get_running_loop()
        wished_at, was_healthy, reported = 0.0, True, 0
        while not self._stopped:
            self._enqueue(PREFIX + self._origin, b"{}")
            if loop.time() - wished_at >= WISH_AGAIN_SECONDS:
                wished_at = loop.time()
                self._wishes = {root_id: until for root_id, until in self._wishes.items() if until > wished_at}
                for root_id, buffers in self._buffers.items():
                    if any(buffer.deltas for buffer in buffers):
                        self._wish(root_id)
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._refused > reported:
                log.warning("redis-messages-refused", count=self._refused - reported, reason="no valid signature")
                reported = self._refused
            if self.is_healthy != was_healthy:
                was_healthy = self.is_healthy
                log.info("redis-recovered") if was_healthy else log.warning(
                    "redis-unavailable", effect="events are read from the database"
                )

    async def _listen(self) -> None:
        """Receive the commits of other processes; replace a connection that stays silent."""
        while not self._stopped:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    channels = {WISHES, PREFIX + self._origin, *self._wanted_channels()}
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await pubsub.subscribe(*channels)
                    self._pubsub, self._subscribed = pubsub, channels
                    self._changed.set()
                    while not self._stopped:
                        async with asyncio.timeout(SILENCE_SECONDS):
                            message = await pubsub.get_message(timeout=None)
                        if message is not None:
                            self._hear(message)
            except REDIS_ERRORS as error:
                log.debug("redis-listen-failed", error=type(error).__name__)
            except Exception:
                log.exception("redis-listener-crashed")
            finally:
                self._pubsub = None
            await asyncio.sleep(PAUSE_SECONDS)

    def _wanted_channels(self) -> set[str]:
        return {PREFIX + root_id for root_id in self._buffers}

    async def _subscribe(self) -> None:
        """Keep the subscriptions in Redis equal to those of this process."""
        while not self._stopped:
            await self._changed.wait()
            self._changed.clear()
            pubsub = self._pubsub
            if pubsub is None:
                continue
            wanted = {WISHES, PREFIX + self._origin, *self._wanted_channels()}
            new, old = wanted - self._subscribed, self._subscribed - wanted
            self._subscribed = wanted
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if new:
                        await pubsub.subscribe(*new)
                    if old:
                        await pubsub.unsubscribe(*old)
            except REDIS_ERRORS as error:
                log.debug("redis-subscribe-failed", error=type(error).__name__)
                self._subscribed = self._subscribed - new  # the listener's next connection asks for all again

    def _hear(self, message: dict[str, Any]) -> None:
        """Handle one message from Redis."""
        channel = message["channel"].decode()
        content = self._signer.open(channel, message["data"])
        if content is None:
            self._refused += 1
            return
        if channel == PREFIX + self._origin:
            self._heard_at = asyncio.get_running_loop().time()
            return
        head, _, rest = content.partition(b"\n")
        told: dict[str, Any] = orjson.loads(head)
        if told["origin"] == self._origin:
            return
        if channel == WISHES:
            if len(self._wishes) < MAX_WISHES or told["root"] in self._wishes:
                self._wishes[told["root"]] = asyncio.get_running_loop().time() + WISH_SECONDS
            return
        root_id = channel.removeprefix(PREFIX)
        self.deliver(decode(root_id, told, rest), root_id)


def encode(committed: Committed, origin: str) -> bytes:
    """Encode a group as a header line and one line per frame; large frames are left out."""
    head: dict[str, Any] = {"origin": origin, "lastSeq": committed.frames[-1].seq if committed.frames else 0}
    if sum(len(frame.data) for frame in committed.frames) > MAX_MESSAGE_BYTES:
        return orjson.dumps(head)
    head["frames"] = [[frame.seq, frame.type, frame.execution_id] for frame in committed.frames]
    head["endings"] = [[one.execution_id, one.status, one.last_seq] for one in committed.endings]
    return b"\n".join([orjson.dumps(head), *(frame.data for frame in committed.frames)])


def decode(root_id: str, told: dict[str, Any], rest: bytes) -> Committed | Moved | AgentDelta:
    """Decode another process's message about a tree."""
    if "lastSeq" not in told:
        return AgentDelta.model_validate_json(rest)
    if "frames" not in told:
        return Moved(root_id, told["lastSeq"])
    texts = rest.split(b"\n") if told["frames"] else []
    frames = [
        Frame.of(seq, kind, execution_id, text)
        for (seq, kind, execution_id), text in zip(told["frames"], texts, strict=True)
    ]
    endings = [Ending(one, ExecutionStatus(status), last_seq) for one, status, last_seq in told["endings"]]
    return Committed(root_id, tuple(frames), tuple(endings))

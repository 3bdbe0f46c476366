"""The bus between processes: Redis carries "this tree is now at that number", with the frames as a shortcut.

Redis carries wake-ups and nothing depends on it. Publishing never waits and never fails: a message that cannot be sent
is dropped. A receiver notices that by the numbers, or when it polls the heads, and reads MongoDB. Each process
sends itself a heartbeat through Redis; while that does not come back, heads are looked at as often as without Redis.

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
    """An in-process bus that also hears of what other processes commit, and tells them of what this one does."""

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
        """Whether what this process sends through Redis comes back."""
        return asyncio.get_running_loop().time() - self._heard_at < HEALTHY_SECONDS

    @property
    def poll_seconds(self) -> float:
        """How long a tree of another process may have moved unheard."""
        return HEALTHY_POLL_SECONDS if self.is_healthy else POLL_SECONDS

    async def start(self) -> None:
        """Begin to send and to listen; Redis need not be there."""
        jobs = {"send": self._send(), "listen": self._listen(), "beat": self._beat(), "subscribe": self._subscribe()}
        self._tasks = [asyncio.create_task(job, name=f"redis {name}") for name, job in jobs.items()]

    async def stop(self) -> None:
        """Send and listen no more. redis-py may swallow a cancellation, so the loops look at a flag as well."""
        self._stopped = True
        self._changed.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.aclose()

    def publish(self, committed: Committed) -> None:
        """Tell the tree's buffers here, then those in other processes."""
        super().publish(committed)
        self._enqueue(PREFIX + committed.root_id, encode(committed, self._origin))

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text on, to other processes only if one of their subscribers wants it."""
        super().publish_delta(delta)
        if self._is_wished(delta.root_execution_id):
            text = delta.model_dump_json(by_alias=True).encode()
            self._enqueue(PREFIX + delta.root_execution_id, orjson.dumps({"origin": self._origin}) + b"\n" + text)

    def wants_deltas(self, root_id: str) -> bool:
        """Whether anybody who follows the tree asked for live text, here or in another process."""
        return super().wants_deltas(root_id) or self._is_wished(root_id)

    def may_be_followed(self, root_id: str) -> bool:
        """Whether the tree may have followers: those in other processes are unknown here."""
        return True

    def ask_for_deltas(self, buffer: BusBuffer) -> None:
        """From now on pass live text to the buffer too, also that of other processes."""
        super().ask_for_deltas(buffer)
        self._wish(buffer.root_id)

    @contextmanager
    def follow(self, root_id: str, *, foreign: bool = False) -> Generator[BusBuffer]:
        """A buffer of the tree's commits from now on."""
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
        """Queue a message; when Redis has been away for long it is dropped, and others read the database."""
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait((channel, self._signer.sign(channel, message)))

    async def _send(self) -> None:
        """Send what is queued, many at a time."""
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
        """Send this process a sign of life through Redis, and repeat what is wished of others."""
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
                log.info("redis-back") if was_healthy else log.warning("redis-away", effect="events by the database")

    async def _listen(self) -> None:
        """Hear what others commit; a connection on which nothing comes is given up for a new one."""
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
                log.debug("redis-not-heard", error=type(error).__name__)
            except Exception:
                log.exception("redis-listener-crashed")
            finally:
                self._pubsub = None
            await asyncio.sleep(PAUSE_SECONDS)

    def _wanted_channels(self) -> set[str]:
        return {PREFIX + root_id for root_id in self._buffers}

    async def _subscribe(self) -> None:
        """Keep the subscriptions in Redis as those here are."""
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
                log.debug("redis-not-subscribed", error=type(error).__name__)
                self._subscribed = self._subscribed - new  # the listener's next connection asks for all again

    def _hear(self, message: dict[str, Any]) -> None:
        """Take in one message from Redis."""
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
    """A line about the group, then its frames, a line each; only the line where they are large."""
    head: dict[str, Any] = {"origin": origin, "lastSeq": committed.frames[-1].seq if committed.frames else 0}
    if sum(len(frame.data) for frame in committed.frames) > MAX_MESSAGE_BYTES:
        return orjson.dumps(head)
    head["frames"] = [[frame.seq, frame.type, frame.execution_id] for frame in committed.frames]
    head["endings"] = [[one.execution_id, one.status, one.last_seq] for one in committed.endings]
    return b"\n".join([orjson.dumps(head), *(frame.data for frame in committed.frames)])


def decode(root_id: str, told: dict[str, Any], rest: bytes) -> Committed | Moved | AgentDelta:
    """Returns the message of another process about a tree."""
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

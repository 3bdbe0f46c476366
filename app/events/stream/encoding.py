"""The wire form of a stream's items, encoded once: every follower receives the same bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import orjson

from app.errors import AppError
from app.events.replay import shown_type
from app.events.stream.bus import Ending
from app.events.types import AgentDelta, Frame

TEXT_FRAME = 0x81
"""The first byte of an unfragmented WebSocket text message."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a stream that cannot continue."""

    execution_id: str
    error: AppError


Item = Frame | AgentDelta | Ending | Failure


class Batch:
    """Items of a stream that are sent together, in order; each encoding is made on first use."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items

    @classmethod
    def of_text(cls, text: bytes) -> "Batch":
        """Build a batch of one message that is not an item of a stream."""
        batch = cls(())
        batch.texts = [text]
        return batch

    @cached_property
    def first_seq(self) -> int:
        """The number of its first frame, or 0 if it has none."""
        return next((item.seq for item in self.items if isinstance(item, Frame)), 0)

    @cached_property
    def last_seq(self) -> int:
        """The number of its last frame, or 0 if it has none."""
        return next((item.seq for item in reversed(self.items) if isinstance(item, Frame)), 0)

    def after(self, seq: int) -> "Batch":
        """Return the frames that follow a number."""
        return Batch([item for item in self.items if isinstance(item, Frame) and item.seq > seq])

    @cached_property
    def websocket(self) -> bytes:
        """The items as WebSocket messages, ready for a transport."""
        return b"".join(map(websocket_message, self.texts))

    @cached_property
    def server_sent_events(self) -> bytes:
        """The items as Server-Sent Events."""
        return b"".join(map(server_sent_event, self.items))

    @cached_property
    def texts(self) -> list[bytes]:
        """The JSON of each item."""
        return [text_of(item) for item in self.items]

    @cached_property
    def size_bytes(self) -> int:
        """The total length of the texts."""
        return sum(map(len, self.texts))

    @cached_property
    def by_execution(self) -> dict[str, "Batch"]:
        """The frames of each execution."""
        found: dict[str, list[Item]] = {}
        for item in self.items:
            if isinstance(item, Frame):
                found.setdefault(item.execution_id, []).append(item)
        return {execution_id: Batch(items) for execution_id, items in found.items()}


def batches_of(frames: Iterable[Frame], max_bytes: int) -> list[Batch]:
    """Split frames into batches of about a number of bytes."""
    batches: list[Batch] = []
    items: list[Frame] = []
    size = 0
    for frame in frames:
        items.append(frame)
        size += len(frame.data)
        if size >= max_bytes:
            batches.append(Batch(items))
            items, size = [], 0
    return [*batches, Batch(items)] if items else batches


def websocket_message(text: bytes) -> bytes:
    """Encode a text as one unmasked WebSocket message (RFC 6455, section 5.2)."""
    size = len(text)
    if size < 126:
        return bytes((TEXT_FRAME, size)) + text
    if size < 65536:
        return bytes((TEXT_FRAME, 126)) + size.to_bytes(2) + text
    return bytes((TEXT_FRAME, 127)) + size.to_bytes(8) + text


def server_sent_event(item: Item) -> bytes:
    """Encode an item as one Server-Sent Event. JSON has no raw line breaks, so a text cannot end its `data` line."""
    match item:
        case Frame():
            return b"id: %d\nevent: %b\ndata: %b\n\n" % (item.seq, shown_type(item.type).encode(), one_line(item.data))
        case Ending():
            return b"event: execution-end\ndata: %b\n\n" % text_of(item)
        case AgentDelta():
            return b"event: agent-delta\ndata: %b\n\n" % text_of(item)
        case Failure():  # the client may reconnect with its `Last-Event-ID`
            return b"event: error\ndata: %b\n\n" % error_text(item.error.code, item.error.message, None)


def one_line(data: bytes) -> bytes:
    """Return JSON without line breaks; what another process sent may have some between its values."""
    return data if b"\n" not in data and b"\r" not in data else data.translate(None, b"\r\n")


def text_of(item: Item) -> bytes:
    """Return the JSON that is sent for an item."""
    match item:
        case Frame():
            return item.data
        case AgentDelta():
            return item.model_dump_json(by_alias=True).encode()
        case Ending():
            return orjson.dumps(
                {
                    "type": "execution-end",
                    "executionId": item.execution_id,
                    "status": item.status,
                    "lastSeq": item.last_seq,
                }
            )
        case Failure():
            return error_text(item.error.code, item.error.message, item.execution_id)


def error_text(code: str, message: str, execution_id: str | None) -> bytes:
    """Build the message that reports an error."""
    about = {"executionId": execution_id} if execution_id else {}
    return orjson.dumps({"type": "error", "code": code, "message": message, **about})

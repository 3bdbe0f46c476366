"""The frames of Server-Sent Events, written by ourselves: fast, and no text can forge one."""

import asyncio
from collections.abc import AsyncIterator

import orjson
from pymongo.errors import PyMongoError

from app.errors import AppError
from app.events.bus import Ending
from app.events.hub import EventHub
from app.events.replay import StreamHead
from app.events.types import AgentDelta, Frame

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = ": still here\n\n"


async def sse_frames(hub: EventHub, head: StreamHead, after: int) -> AsyncIterator[str]:
    """The frames of a stream, with a comment whenever nothing came for a while."""
    items = aiter(hub.follow(head, after))
    waiting = asyncio.ensure_future(anext(items, None))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield HEARTBEAT
                continue
            item = waiting.result()
            if item is None:
                return
            yield sse_frame(item)
            waiting = asyncio.ensure_future(anext(items, None))
    except AppError as error:
        yield error_frame(error.code, error.message)
    except PyMongoError:
        yield error_frame("database-unavailable", "The database does not answer; connect again.")
    finally:
        waiting.cancel()


def sse_frame(item: Frame | AgentDelta | Ending) -> str:
    """One frame. JSON has no raw line breaks, so a text cannot end its `data` line."""
    match item:
        case Frame():
            return f"id: {item.seq}\nevent: {item.type}\ndata: {item.text}\n\n"
        case Ending():
            return f"event: execution-end\ndata: {ending_text(item)}\n\n"
        case AgentDelta():
            return f"event: agent-delta\ndata: {item.model_dump_json(by_alias=True)}\n\n"


def error_frame(code: str, message: str) -> str:
    """What ends a stream that cannot go on; the client may connect again with its `Last-Event-ID`."""
    text = orjson.dumps({"type": "error", "code": code, "message": message}).decode()
    return f"event: error\ndata: {text}\n\n"


def ending_text(ending: Ending) -> str:
    """The message that ends a stream, also over WebSocket."""
    return orjson.dumps(
        {
            "type": "execution-end",
            "executionId": ending.execution_id,
            "status": ending.status,
            "lastSeq": ending.last_seq,
        }
    ).decode()

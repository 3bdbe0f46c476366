"""A client of the event socket that reconnects and resumes, and yields each event once and in order."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from app.kit.json_values import JsonObject

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
GIVE_UP_SECONDS = 60.0
REFUSALS = (4401, 4403)
TEMPORARY_ERRORS = ("database-unavailable",)


class FollowingRefused(Exception):
    """The service refuses to show the execution, or stays unavailable for too long; the message says which."""


@dataclass(frozen=True)
class EventClient:
    """A client of one service, with its address and the headers that carry a key."""

    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])

    async def follow(self, execution_id: str, after: int = 0, *, deltas: bool = False) -> AsyncGenerator[JsonObject]:
        """Yield every event after number `after`, then `execution-end`; reconnects in between.

        Raises:
            FollowingRefused: the service refuses, or is unavailable for a minute.
        """
        loop = asyncio.get_running_loop()
        heard_at, pause = loop.time(), FIRST_PAUSE_SECONDS
        while loop.time() - heard_at < GIVE_UP_SECONDS:
            try:
                async for message in self._listen(execution_id, after, deltas=deltas):
                    heard_at, pause = loop.time(), FIRST_PAUSE_SECONDS
                    after = message.get("seq", after)
                    yield message
                    if message["type"] == "execution-end":
                        return
            except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake) as error:
                refuse_if_final(error)
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads out clients that reconnect
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        raise FollowingRefused(f"{self.url} is unavailable. The run continues; follow it again later.")

    async def _listen(self, execution_id: str, after: int, *, deltas: bool) -> AsyncGenerator[JsonObject]:
        """Yield the messages of one connection; a temporary error ends it."""
        address = f"{self.url.replace('http', 'ws', 1)}/api/agent-events"
        async with connect(address, additional_headers=self.headers, max_size=None) as socket:
            wanted = {"type": "subscribe", "executionId": execution_id, "afterSeq": after, "deltas": deltas}
            await socket.send(json.dumps(wanted))
            async for text in socket:
                message: JsonObject = json.loads(text)
                if message["type"] == "error":
                    if message["code"] in TEMPORARY_ERRORS:
                        return
                    raise FollowingRefused(message["message"])
                if message["type"] != "subscribed":
                    yield message


def refuse_if_final(error: Exception) -> None:
    """Raise an error if another connection would end the same way; otherwise do nothing.

    Raises:
        FollowingRefused: the service refuses the credentials.
    """
    if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
        raise FollowingRefused(
            f"The service refused the WebSocket connection (HTTP {error.response.status_code})."
        ) from None
    if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code in REFUSALS:
        raise FollowingRefused(error.rcvd.reason or "The service rejected this key.") from None

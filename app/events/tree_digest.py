"""The digest of a tree's events, which shows later whether they have changed since the tree ended."""

import hashlib
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Any

from app.kit.canonical_json import canonical_json
from app.kit.concurrency import Turns
from app.kit.json_values import JsonObject


class EventUnreadable(ValueError):
    """A stored event is not a JSON object, so it has no canonical form."""


@dataclass(slots=True)
class EventsHash:
    """A SHA-256 over events: over the RFC 8785 form of each, and a line feed."""

    count: int = 0
    """How many events it covers."""
    last_seq: int = 0
    """The number of the last of them."""
    _sha256: Any = field(default_factory=hashlib.sha256)

    def add(self, event: JsonObject) -> None:
        """Add the next event in `seq` order.

        Raises:
            EventUnreadable: it has no canonical form; this service does not store such events.
        """
        try:
            self._sha256.update(canonical_json(event))
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise EventUnreadable(f"event {event.get('seq')!r} is not JSON") from error
        self._sha256.update(b"\n")
        self.count += 1
        self.last_seq = int(event["seq"])

    def hexdigest(self) -> str:
        """Return the digest so far, in lower-case hexadecimal digits."""
        return self._sha256.hexdigest()


async def tree_events_digest(events: AsyncIterable[JsonObject]) -> str:
    """Return the SHA-256 over a tree's events, given in `seq` order as `/events` shows them (oversized ones truncated).

    It lets other tasks run in between, however many events there are.

    Raises:
        EventUnreadable: an event has no canonical form.
    """
    return (await hash_events(events)).hexdigest()


async def hash_events(
    events: AsyncIterable[JsonObject], until: int | None = None, turns: Turns | None = None
) -> EventsHash:
    """Return the hash over the events up to number `until`, by default over all.

    Callers that hash many short trees pass the same `turns` for all of them.

    Raises:
        EventUnreadable: an event has no canonical form.
    """
    hashed, turns = EventsHash(), turns or Turns()
    async for event in events:
        if until is not None and event["seq"] > until:
            break
        hashed.add(event)
        await turns.give()
    return hashed

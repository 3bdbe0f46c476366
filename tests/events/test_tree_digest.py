"""The digest of a tree's events: the same for everyone, and another after any change."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest
import rfc8785

from app.database.connection import Database
from app.events.log.full_events import stored_tree_events
from app.events.replay import read_events, read_head
from app.events.tree_digest import EventUnreadable, hash_events, tree_events_digest
from app.events.types import AgentComplete
from app.kit import concurrency
from app.kit.json_values import JsonObject
from tests.fixtures.event_trees import Tree, said


async def given(*events: JsonObject) -> AsyncGenerator[JsonObject]:
    for event in events:
        yield event


async def test_the_digest_is_over_the_canonical_form_and_a_line_feed_of_each_event() -> None:
    events: list[JsonObject] = [{"seq": 1, "type": "a", "cost": 1.0}, {"type": "ü", "seq": 2}]

    digest = await tree_events_digest(given(*events))

    assert digest == hashlib.sha256(b"".join(rfc8785.dumps(event) + b"\n" for event in events)).hexdigest()


async def test_the_hash_of_a_beginning_stops_at_its_number() -> None:
    hashed = await hash_events(given({"seq": 1}, {"seq": 2}, {"seq": 3}), until=2)

    assert (hashed.count, hashed.last_seq) == (2, 2)
    assert hashed.hexdigest() == await tree_events_digest(given({"seq": 1}, {"seq": 2}))


async def test_an_event_that_is_not_json_is_named() -> None:
    with pytest.raises(EventUnreadable, match="event 2"):
        await tree_events_digest(given({"seq": 1}, {"seq": 2, "at": datetime.now(UTC)}))


async def test_the_event_loop_serves_others_while_events_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "SLICE_SECONDS", 0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await tree_events_digest(given(*({"seq": seq, "text": "word"} for seq in range(1, 100))))
    counting.cancel()

    assert turns > 50


async def test_stored_events_give_the_digest_of_the_events_that_are_shown(database: Database, tree: Tree) -> None:
    log = tree.open_log()
    log.append(tree.id, said("One."), said("long " * 20_000))
    log.append(tree.id, AgentComplete(output={"text": "Done."}, token_usage={}, cost_usd=0.25, stop_reason="completed"))
    await log.committed()

    shown = await read_events(database, await read_head(database, tree.id), 0)

    assert shown[1]["truncated"] is True
    assert await tree_events_digest(stored_tree_events(database, tree.id)) == await tree_events_digest(given(*shown))

"""Verification of the audit log: any change of an entry, or of a stored event of an ended tree, is found and named."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from app.database.audit_marks import TreeRecord, add_audit_marks, audit_mark, end_mark
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.transactions import in_transaction
from app.events.archive.reader import Archives
from app.events.log import log_rows
from app.events.outbox import ExecutionEnd, Outbox
from app.events.types import AgentComplete
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.models.audit import AuditAction, AuditEntry
from app.models.execution_events import EventPayload, ExecutionEventPage
from app.services.audit.appender import AuditAppender, read_head
from app.services.audit.chain import BadEntry, Head
from app.services.audit.ends import AuditEnds
from app.services.audit.tree_checks import BadTree
from app.services.audit.verification import AuditVerifier, Verification
from tests.fixtures.audit_chains import BOB, make_chain, read_chain
from tests.fixtures.event_trees import RecordingBus, Tree, new_execution, said

Collection = AsyncCollection[Raw]


async def ended_tree(database: Database, *, rows: int = 3, cut: bool = False) -> Tree:
    """A stored tree of a root and a child that has ended, with the audit mark of its end."""
    tree = Tree(database, RecordingBus(), new_execution())
    await tree.root.insert()
    log, child = tree.open_log(), tree.new_child()
    await log.add_child(child)
    for number in range(rows):
        log.append(tree.id, said(number))
        log.append(child.execution_id, said("long " * 20_000 if cut else number))
    ending: Raw = {"status": ExecutionStatus.COMPLETED.value}
    complete = AgentComplete(output={"text": "Done."}, token_usage={}, cost_usd=0.25, stop_reason="completed")
    log.append(child.execution_id, complete, changes=ending)
    log.append(tree.id, complete, changes=ending)
    await log.committed()
    await log.close()
    await leave(database, end_mark(tree.id, "completed", log.last_seq, utc_now()))
    return tree


async def leave(database: Database, *marks: Raw) -> None:
    await in_transaction(database, lambda session: add_audit_marks(database, marks, session))


async def append(database: Database) -> None:
    while await AuditAppender(database).append_pending():
        pass


async def verify(database: Database, *noted: Head) -> Verification:
    return await AuditVerifier(database, Archives(Path("nowhere"))).verify(noted)


@dataclass(frozen=True)
class Stored:
    """The collections of a tree and of the chain, which a test may change."""

    database: Database
    tree: Tree

    @property
    def executions(self) -> Collection:
        return collection_of(self.database, AgentExecution)

    @property
    def pages(self) -> Collection:
        return collection_of(self.database, ExecutionEventPage)

    @property
    def entries(self) -> Collection:
        return collection_of(self.database, AuditEntry)

    async def root(self, *changes: Any) -> None:  # noqa: ANN401 - an update
        for change in changes:
            await self.executions.update_one({"executionId": self.tree.id}, change)


Tampering = Callable[[Stored], Awaitable[Any]]


async def change_an_event(stored: Stored) -> None:
    await stored.root({"$set": {"events.1.event.content": "Something else."}})


async def drop_an_event(stored: Stored) -> None:
    await stored.root({"$pull": {"events": {"event.seq": 3}}})


async def drop_the_last_event(stored: Stored) -> None:
    await stored.root({"$pop": {"events": 1}})


async def swap_two_events(stored: Stored) -> None:
    raw = await stored.executions.find_one({"executionId": stored.tree.id})
    assert raw is not None
    rows: list[Any] = raw["events"]
    rows[0], rows[1] = rows[1], rows[0]
    await stored.root({"$set": {"events": rows}})


async def swap_the_numbers_of_two_events(stored: Stored) -> None:
    await stored.root({"$set": {"events.0.event.content": "1", "events.1.event.content": "0"}})


async def add_an_event(stored: Stored) -> None:
    raw = await stored.executions.find_one({"executionId": stored.tree.id})
    assert raw is not None
    last: Any = raw["events"][-1]
    seq = last["event"]["seq"] + 1
    added = {"event": {**last["event"], "seq": seq}, "id": "new"}
    await stored.root({"$push": {"events": added}, "$set": {"lastSeq": seq}})


async def add_a_row_without_a_number(stored: Stored) -> None:
    await stored.root({"$push": {"events": {"event": {"type": "agent-response"}, "id": "new"}}})


async def add_a_page(stored: Stored) -> None:
    event = {"executionId": stored.tree.id, "rootExecutionId": stored.tree.id, "seq": 2, "type": "agent-response"}
    await stored.pages.insert_one(
        {"executionId": stored.tree.id, "rootExecutionId": stored.tree.id, "firstSeq": 2, "lastSeq": 2}
        | {"events": [{"event": event, "id": "new"}]}
    )


async def move_an_event_to_the_child(stored: Stored) -> None:
    raw = await stored.executions.find_one({"executionId": stored.tree.id})
    assert raw is not None
    row: Any = raw["events"][0]
    await stored.root({"$pop": {"events": -1}})
    moved = {"$push": {"events": {"$each": [row], "$position": 0}}}
    await stored.executions.update_one({"parentExecutionId": stored.tree.id}, moved)


async def change_the_child(stored: Stored) -> None:
    change = {"$set": {"events.0.event.agentId": "eve"}}
    await stored.executions.update_one({"parentExecutionId": stored.tree.id}, change)


async def drop_the_child(stored: Stored) -> None:
    await stored.executions.delete_one({"parentExecutionId": stored.tree.id})


async def drop_the_tree(stored: Stored) -> None:
    await stored.executions.delete_many({"rootExecutionId": stored.tree.id})


async def store_a_date(stored: Stored) -> None:
    await stored.root({"$set": {"events.1.event.timestamp": utc_now()}})


async def store_no_list(stored: Stored) -> None:
    await stored.root({"$set": {"events": "gone"}})


async def say_that_it_is_archived(stored: Stored) -> None:
    await stored.root({"$set": {"events": [], "archivedAt": utc_now()}})


OF_EVENTS: list[Tampering] = [
    change_an_event,
    drop_an_event,
    drop_the_last_event,
    swap_two_events,
    swap_the_numbers_of_two_events,
    add_an_event,
    add_a_row_without_a_number,
    add_a_page,
    move_an_event_to_the_child,
    change_the_child,
    drop_the_child,
    drop_the_tree,
    store_a_date,
    store_no_list,
    say_that_it_is_archived,
]


async def test_every_change_of_stored_events_is_found_and_its_tree_named(database: Database) -> None:
    tree, other = await ended_tree(database), await ended_tree(database)
    await append(database)
    stored = Stored(database, tree)
    members = await stored.executions.find({"rootExecutionId": tree.id}).to_list()
    assert await verify(database) == Verification(2, 2, None, await read_head(database))

    for tampering in OF_EVENTS:
        await tampering(stored)

        found = await verify(database)

        assert isinstance(found.bad, BadTree), tampering
        assert found.bad.root_id == tree.id != other.id, tampering
        assert found.bad.reason, tampering
        await stored.executions.delete_many({"rootExecutionId": tree.id})
        await stored.pages.delete_many({"rootExecutionId": tree.id})
        await stored.executions.insert_many(members)
        assert (await verify(database)).bad is None


async def test_large_trees_are_checked_on_their_pages_and_in_their_full_payloads(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rows, "MAX_DOCUMENT_ROWS", 4)
    monkeypatch.setattr(log_rows, "MAX_PAGE_ROWS", 3)
    tree = await ended_tree(database, rows=8)
    cut = await ended_tree(database, rows=2, cut=True)
    await append(database)
    stored, payloads = Stored(database, tree), collection_of(database, EventPayload)
    page = await stored.pages.find_one({"rootExecutionId": tree.id})
    payload = await payloads.find_one({"rootExecutionId": cut.id})
    assert page is not None
    assert payload is not None
    assert (await verify(database)).bad is None

    by_id = {"_id": page["_id"]}
    for change in ({"$set": {"events.0.event.content": "x"}}, {"$pop": {"events": 1}}, {"$pop": {"events": -1}}):
        await stored.pages.update_one(by_id, change)
        assert (await verify(database)).bad == BadTree(tree.id, Reason())
        await stored.pages.replace_one(by_id, page)
    await stored.pages.delete_one(by_id)
    assert (await verify(database)).bad == BadTree(tree.id, Reason())
    await stored.pages.insert_one(page)

    await payloads.update_one({"_id": payload["_id"]}, {"$set": {"text": payload["text"].replace(b"long", b"lung")}})
    assert (await verify(database)).bad == BadTree(cut.id, Reason("payload"))
    await payloads.delete_one({"_id": payload["_id"]})
    assert (await verify(database)).bad == BadTree(cut.id, Reason("payload"))


class Reason(str):
    """Equal to any text that contains it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(self) in other

    __hash__ = str.__hash__


async def drop_entry(entries: Collection) -> None:
    await entries.delete_one({"_id": 4})


async def change_entry(entries: Collection) -> None:
    await entries.update_one({"_id": 4}, {"$set": {"actor.name": "Eve"}})


async def swap_entries(entries: Collection) -> None:
    four, five = [await entries.find_one_and_delete({"_id": seq}) for seq in (4, 5)]
    assert four is not None
    assert five is not None
    await entries.insert_many([{**five, "_id": 4}, {**four, "_id": 5}])


async def add_a_field(entries: Collection) -> None:
    await entries.update_one({"_id": 4}, {"$set": {"note": "harmless"}})


async def store_a_text_as_time(entries: Collection) -> None:
    await entries.update_one({"_id": 4}, [{"$set": {"at": {"$toString": "$at"}}}])


async def hash_it_again(entries: Collection) -> None:
    await entries.update_one({"_id": 4}, {"$set": {"hash": "ab" * 32}})


async def test_every_change_of_entries_is_found_and_the_first_bad_one_named(database: Database) -> None:
    await make_chain(database, 9)
    entries = collection_of(database, AuditEntry)
    whole = await entries.find().to_list()
    for tampering in (drop_entry, change_entry, swap_entries, add_a_field, store_a_text_as_time, hash_it_again):
        await tampering(entries)

        found = await verify(database)

        assert isinstance(found.bad, BadEntry), tampering
        assert (found.checked, found.bad.seq) == (3, 4), tampering
        await entries.delete_many({})
        await entries.insert_many(whole)
    for stray in ({"_id": "x"}, {"_id": 2.5}, {"_id": -1}, {"_id": 99}):
        await entries.insert_one({**whole[0], **stray, "mark": str(stray)})
        assert isinstance((await verify(database)).bad, BadEntry), stray
        await entries.delete_one(stray)
    assert (await verify(database)).bad is None


async def test_a_cut_tail_is_found_by_a_head_that_was_noted(database: Database) -> None:
    chain = await make_chain(database, 6)
    noted, other = Head(6, chain[5]["hash"]), Head(3, "ab" * 32)
    assert (await verify(database, noted, Head(2, chain[1]["hash"]))).bad is None
    assert (await verify(database, other)).bad == BadEntry(3, Reason("head recorded earlier"))

    await collection_of(database, AuditEntry).delete_many({"_id": {"$gt": 4}})

    assert (await verify(database)).bad is None
    assert (await verify(database, noted)).bad == BadEntry(5, Reason("reached entry 6"))


async def test_a_process_that_continues_a_cut_chain_shows_the_gap(database: Database) -> None:
    appender = AuditAppender(database)
    await leave(database, *(audit_mark(AuditAction.AGENT_CREATE, BOB, f"a-{number}") for number in range(5)))
    await appender.append_pending()
    await collection_of(database, AuditEntry).delete_many({"_id": {"$gt": 3}})
    await leave(database, audit_mark(AuditAction.AGENT_DELETE, BOB, "a-1"))
    await appender.append_pending()

    assert (await verify(database)).bad == BadEntry(4, Reason("4 to 5 are missing"))


async def test_changes_that_followed_are_no_tampering(database: Database) -> None:
    deleted, continued = await ended_tree(database), await ended_tree(database)
    await append(database)
    await collection_of(database, AgentExecution).delete_many({"rootExecutionId": deleted.id})
    await leave(database, audit_mark(AuditAction.EXECUTION_DELETE, BOB, deleted.id))
    running = {"$set": {"status": ExecutionStatus.RUNNING.value}}
    await add_an_event(Stored(database, continued))
    await collection_of(database, AgentExecution).update_one({"executionId": continued.id}, running)

    assert (await verify(database)).bad is None  # the marks say so, before there are entries
    await append(database)
    assert (await verify(database)).bad is None

    await collection_of(database, AgentExecution).update_one(
        {"executionId": continued.id}, {"$set": {"status": ExecutionStatus.COMPLETED.value}}
    )
    assert (await verify(database)).bad == BadTree(continued.id, Reason("follow"))


async def test_a_review_entry_before_the_end_entry_is_not_tampering(database: Database) -> None:
    before = utc_now() - timedelta(seconds=1)
    tree = await ended_tree(database)
    await add_an_event(Stored(database, tree))
    reviewed = TreeRecord(tree.id, 9)
    await leave(database, audit_mark(AuditAction.EXECUTION_REVIEW, BOB, tree.id, tree=reviewed, at=before))
    await append(database)

    actions = [(entry["action"], entry["detail"]["lastSeq"]) for entry in await read_chain(database)]
    assert actions == [("execution.review", 9), ("execution.end", 8)]
    assert (await verify(database)).bad is None
    await add_an_event(Stored(database, tree))
    assert (await verify(database)).bad == BadTree(tree.id, Reason("follow"))


async def test_the_end_of_a_root_costs_a_field_of_its_own_write_and_that_of_a_child_nothing(database: Database) -> None:
    root = new_execution()
    ends = [
        ExecutionEnd(one, ExecutionStatus.COMPLETED, Counter(), is_first=True, seq=7)
        for one in (root, new_execution(root.execution_id, parent=root.execution_id))
    ]

    [(name, mark)], none = (list(AuditEnds(database).mark(end).items()) for end in ends)

    assert name.startswith("outbox.audit.")
    assert (mark["status"], mark["lastSeq"], none) == ("completed", 7, [])


async def test_an_end_has_one_entry_with_the_hash_of_its_events(database: Database) -> None:
    tree = await ended_tree(database)
    await append(database)
    ended = await collection_of(database, AgentExecution).find_one({"executionId": tree.id})
    assert ended is not None
    outbox = Outbox(database, [AuditEnds(database)])
    mark = {"outbox.audit.66f0a1b2c3d4e5f601234567": {"status": "completed", "lastSeq": 8, "at": utc_now()}}
    await Stored(database, tree).root({"$set": mark})
    await outbox.settle()
    await append(database)

    first, second = await read_chain(database)

    assert (first["action"], first["target"]) == ("execution.end", {"kind": "execution", "key": tree.id})
    assert first["detail"] == second["detail"]
    assert first["actor"] == {"type": "service", "name": "dynamic-agents"}

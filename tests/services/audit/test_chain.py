"""The chain of audit entries: whatever is done to an entry is found and named."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from app.database.connection import Raw
from app.services.audit.chain import Head, check_entries, linked, parse_head, shown_entry
from tests.fixtures.audit_chains import Json, assert_dense, some_mark


def entries(count: int = 5) -> list[Json]:
    stored, _ = linked(Head(), [some_mark(number) for number in range(count)])
    return [shown_entry(raw) for raw in stored]


def test_a_chain_is_what_the_contract_says() -> None:
    assert_dense(entries(), 5)


def test_a_chain_that_was_left_alone_is_good_in_any_parts() -> None:
    whole = entries()
    head, bad = check_entries(Head(), whole[:3])
    assert bad is None
    assert check_entries(head, whole[3:]) == (Head(5, whole[4]["hash"]), None)


def swap(chain: list[Json]) -> None:
    chain[1], chain[2] = chain[2] | {"seq": 2}, chain[1] | {"seq": 3}


def tampered(**changes: object) -> Callable[[list[Json]], None]:
    return lambda chain: chain[2].update(changes)


def drop(place: int) -> Callable[[list[Json]], None]:
    def change(chain: list[Json]) -> None:
        del chain[place]

    return change


def repeat(chain: list[Json]) -> None:
    chain.insert(2, dict(chain[1]))


@pytest.mark.parametrize(
    ("change", "seq", "reason"),
    [
        (tampered(at="2026-01-01T00:00:00.000Z"), 3, "content"),
        (tampered(actor={"type": "api-key", "name": "Eve"}), 3, "content"),
        (tampered(action="agent.delete"), 3, "content"),
        (tampered(detail={}), 3, "content"),
        (tampered(note="added"), 3, "fields"),
        (tampered(hash="0" * 64), 3, "content"),
        (tampered(previousHash="0" * 64), 3, "previousHash"),
        (tampered(seq="3"), 3, "number"),
        (tampered(seq=2), 3, "number"),
        (tampered(detail={"when": datetime.now(UTC)}), 3, "not JSON"),
        (drop(2), 3, "missing"),
        (drop(0), 1, "missing"),
        (swap, 2, "previousHash"),
        (repeat, 3, "number"),
    ],
)
def test_any_change_of_an_entry_is_named(change: Callable[[list[Json]], None], seq: int, reason: str) -> None:
    whole = entries()
    change(whole)

    _, bad = check_entries(Head(), whole)

    assert bad is not None
    assert bad.seq == seq
    assert reason in bad.reason


def test_an_entry_names_the_events_of_its_tree() -> None:
    tree: Raw = {"rootExecutionId": "exec_1", "lastSeq": 7, "eventsHash": "ab", "isHashed": True}
    [stored], _ = linked(Head(), [some_mark(1) | {"tree": tree, "_id": ObjectId()}])

    assert stored["detail"].items() >= {"rootExecutionId": "exec_1", "lastSeq": 7, "eventsHash": "ab"}.items()


@pytest.mark.parametrize("text", ["", "7", "7:ab", f"-1:{'a' * 64}", f"1:{'A' * 64}", f"1:{'a' * 64}x"])
def test_a_text_that_is_no_head_is_refused(text: str) -> None:
    assert parse_head(text) is None
    assert parse_head(f"12:{'a' * 64}\n") == Head(12, "a" * 64)

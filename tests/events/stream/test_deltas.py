"""Live text at a pace that a reader can follow."""

import asyncio

import pytest

from app.events.stream import delta_pacer
from app.events.stream.broadcaster import Subscription
from app.events.stream.delta_pacer import DeltaPacer
from app.events.stream.encoding import Batch
from app.events.stream.hub import EventHub
from app.events.stream.sinks import QueueSink
from app.events.types import AgentDelta
from tests.fixtures.event_trees import Tree, said, until


def delta(text: str, execution_id: str = "e1") -> AgentDelta:
    """Some text of an execution."""
    return AgentDelta(execution_id=execution_id, root_execution_id="e1", agent_id="ada-001", text=text)


@pytest.fixture
def given() -> list[AgentDelta]:
    """The deltas that were sent."""
    return []


async def test_deltas_faster_than_20_per_second_are_joined(given: list[AgentDelta]) -> None:
    pacer = DeltaPacer[str](lambda _, one: given.append(one))
    loop = asyncio.get_running_loop()
    started = loop.time()

    for number in range(200):
        pacer.add("s", delta(f"{number} "))
        await asyncio.sleep(0.001)
    await until(lambda: "".join(one.text for one in given).endswith("199 "))

    assert "".join(one.text for one in given) == "".join(f"{number} " for number in range(200))
    assert len(given) <= (loop.time() - started) / delta_pacer.PACE_SECONDS + 2
    pacer.stop()


async def test_executions_that_stream_at_once_share_the_pace_and_keep_their_own_text(given: list[AgentDelta]) -> None:
    pacer = DeltaPacer[str](lambda _, one: given.append(one))

    for number in range(5):
        for execution_id in ("e1", "e2", "e3"):
            pacer.add("s", delta(str(number), execution_id))
    await until(lambda: len(given) == 4)

    assert [(one.execution_id, one.text) for one in given] == [
        ("e1", "0"),
        ("e2", "01234"),
        ("e3", "01234"),
        ("e1", "1234"),
    ]
    pacer.stop()


async def test_text_goes_before_the_event_that_has_it_whole(given: list[AgentDelta]) -> None:
    pacer = DeltaPacer[str](lambda _, one: given.append(one))
    for text in ("Once ", "upon ", "a time"):
        pacer.add("s", delta(text))

    pacer.flush("s", ["e1"])

    assert [one.text for one in given] == ["Once ", "upon a time"]
    pacer.stop()


async def test_a_reader_that_is_behind_gets_events_and_no_text(tree: Tree) -> None:
    hub, log, sink = EventHub(tree.database, tree.bus), tree.open_log(), QueueSink()
    log.append(tree.id, said("first"))
    await log.committed()
    subscription = Subscription(await hub.head(tree.id), 0, sink, deltas=True)
    hub.subscribe(subscription)
    await until(lambda: subscription.is_live)
    for _ in range(9):
        sink.send(Batch.of_text(b"x" * 64 * 1024))
    full = sink.is_full

    log.show_delta(tree.id, "ada-001", "unseen")
    log.append(tree.id, said("second"))
    await log.committed()
    seen: list[object] = []
    async for batch in sink.batches():
        seen += batch.items
        if len(seen) == 2:
            break

    assert full
    assert [getattr(item, "seq", None) for item in seen] == [1, 2]
    hub.unsubscribe(subscription)

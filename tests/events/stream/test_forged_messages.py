"""Messages on Redis that no process of the service sent: whoever can write to Redis shows subscribers nothing."""

import asyncio

import orjson
import pytest
from redis.asyncio import Redis

from app.database.connection import Database
from app.database.shared_secret import shared_secret
from app.events.stream.bus import Committed, Ending
from app.events.stream.redis_bus import MAX_WISHES, PREFIX, WISHES, RedisBus, encode
from app.events.stream.signatures import MessageSigner
from app.events.types import AgentDelta, Frame
from app.models.agent_execution import ExecutionStatus
from tests.events.stream.test_two_processes import Watcher, has_listener, is_healthy, two_processes
from tests.fixtures.event_trees import ENDED, Tree, said
from tests.fixtures.waiting import wait_until


def forgeries(tree_id: str) -> list[bytes]:
    """A frame, an ending and a piece of live text that nothing stands behind."""
    frame = Frame({"type": "agent-response", "seq": 1, "executionId": tree_id, "content": "forged"})
    ending = Ending(tree_id, ExecutionStatus.COMPLETED, 1)
    delta = AgentDelta(execution_id=tree_id, root_execution_id=tree_id, agent_id="ada-001", text="forged")
    head = orjson.dumps({"origin": "another"})
    return [
        encode(Committed(tree_id, (frame,)), "another"),
        encode(Committed(tree_id, (), (ending,)), "another"),
        head + b"\n" + delta.model_dump_json(by_alias=True).encode(),
    ]


@pytest.mark.parametrize("key", [None, b"another database's key"], ids=["unsigned", "signed with another key"])
async def test_forged_messages_reach_no_subscriber(tree: Tree, redis_url: str, key: bytes | None) -> None:
    channel = PREFIX + tree.id
    async with two_processes(tree.database, redis_url) as (runs, watches), Redis.from_url(redis_url) as attacker:
        await wait_until(lambda: is_healthy(watches), 10)
        watcher = Watcher(watches, tree, deltas=True)
        bus = watches.bus
        assert isinstance(bus, RedisBus)
        await wait_until(lambda: has_listener(redis_url, tree.id), 10)
        for body in forgeries(tree.id):
            await attacker.publish(channel, MessageSigner(key).sign(channel, body) if key else body)
            await attacker.publish(channel, b"")
        await wait_until(lambda: bus._refused >= 6, 10)  # pyright: ignore[reportPrivateUsage]
        log = runs.log(tree)
        log.append(tree.id, said(1))
        log.append(tree.id, said(2), changes=ENDED)
        async with asyncio.timeout(10):
            await watcher.task

    assert (watcher.numbers, watcher.deltas) == ([1, 2], [])
    assert watcher.ended is not None
    assert watcher.ended.last_seq == 2


async def test_a_signed_message_counts_on_its_own_channel_alone(tree: Tree) -> None:
    signer = MessageSigner(await shared_secret(tree.database, "event-messages"))
    message = signer.sign(PREFIX + "exec_a", b"{}")

    assert signer.open(PREFIX + "exec_a", message) == b"{}"
    assert signer.open(PREFIX + "exec_b", message) is None
    assert signer.open(PREFIX + "exec_a", message[:-1] + b"]") is None
    assert signer.open(PREFIX + "exec_a", b"short") is None


async def test_every_process_of_a_database_has_the_same_secret(database: Database) -> None:
    found = await asyncio.gather(*(shared_secret(database, "event-messages") for _ in range(10)))

    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert await shared_secret(database, "another purpose") != found[0]


async def test_wishes_for_runs_that_do_not_exist_are_bounded() -> None:
    signer = MessageSigner(b"key")
    bus = RedisBus("redis://127.0.0.1:1/0", signer)
    for number in range(MAX_WISHES + 100):
        body = orjson.dumps({"origin": "another process", "root": f"exec_{number}"})
        bus._hear({"channel": WISHES.encode(), "data": signer.sign(WISHES, body)})  # pyright: ignore[reportPrivateUsage]

    assert len(bus._wishes) == MAX_WISHES  # pyright: ignore[reportPrivateUsage]

"""The event socket over a real server: what is answered, what is delivered."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

from app.events.types import AgentDelta
from tests.fixtures.http_api import Gate, insert_foreign_executions, open_socket, start_run
from tests.fixtures.model_server import ModelServer
from tests.fixtures.services import ADMIN_KEY, Service, StartService

ERROR_MEMBERS = {"type", "code", "message"}


async def test_a_run_is_replayed_then_followed_without_a_gap_to_its_end(
    shared_service: Service, gate: Gate, project: str
) -> None:
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()

    async with open_socket(shared_service) as socket:
        subscribed = await socket.ask(type="subscribe", executionId=execution_id)
        first = await socket.receive()
        gate.opened.set()
        rest = await socket.until_end()

    assert (subscribed["type"], subscribed["executionId"]) == ("subscribed", execution_id)
    assert subscribed["status"] in ("pending", "running")
    *events, end = [first, *rest]
    assert [event["type"] for event in events] == ["agent-start", "agent-response", "agent-complete"]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert {(event["executionId"], event["rootExecutionId"]) for event in events} == {(execution_id, execution_id)}
    assert end == {"type": "execution-end", "executionId": execution_id, "status": "completed", "lastSeq": 3}


async def test_a_late_subscriber_gets_every_event_and_the_end_exactly_as_stored(shared_service: Service) -> None:
    run = await shared_service.run_department("story")

    async with open_socket(shared_service) as socket:
        subscribed = await socket.ask(type="subscribe", executionId=run["executionId"])
        *events, end = await socket.until_end()

    assert subscribed["lastSeq"] == end["lastSeq"] == run["lastSeq"]
    assert (subscribed["status"], end["status"]) == ("completed", "completed")
    assert events == await shared_service.events(run["executionId"])
    assert [event["seq"] for event in events] == list(range(1, run["lastSeq"] + 1))


async def test_a_stream_after_a_number_has_only_later_events(shared_service: Service) -> None:
    run = await shared_service.run_agent("plot-specialist-001")

    async with open_socket(shared_service) as socket:
        await socket.ask(type="subscribe", executionId=run["executionId"], afterSeq=2)
        tail = await socket.until_end()
        await socket.ask(type="subscribe", executionId=run["executionId"], afterSeq=run["lastSeq"])
        nothing_new = await socket.until_end()

    assert [message.get("seq") for message in tail] == [*range(3, run["lastSeq"] + 1), None]
    assert [message["type"] for message in nothing_new] == ["execution-end"]


async def test_a_child_is_followed_alone(shared_service: Service) -> None:
    run = await shared_service.run_department("story")
    tree = (await shared_service.http.get(f"{run['links']['self']}/tree")).json()
    child = tree["children"][0]["executionId"]

    async with open_socket(shared_service) as socket:
        subscribed = await socket.ask(type="subscribe", executionId=child)
        *events, end = await socket.until_end()

    assert subscribed["executionId"] == end["executionId"] == child
    assert {event["executionId"] for event in events} == {child}
    assert events == [
        event for event in await shared_service.events(run["executionId"]) if event["executionId"] == child
    ]
    assert end["lastSeq"] == events[-1]["seq"]


async def test_live_text_reaches_subscribers_that_requested_it_without_a_number(
    shared_service: Service, gate: Gate, model_server: ModelServer, project: str
) -> None:
    first = await start_run(shared_service, project, deltas=True)
    await gate.reached.wait()

    async with open_socket(shared_service) as asking, open_socket(shared_service) as other:
        await asking.ask(type="subscribe", executionId=first, deltas=True)
        await other.ask(type="subscribe", executionId=first)
        gate.opened.set()
        with_text, without = await asyncio.gather(asking.until_end(), other.until_end())

    deltas = [message for message in with_text if message["type"] == "agent-delta"]
    assert "".join(delta["text"] for delta in deltas) == "The work is done."
    assert not any("seq" in delta for delta in deltas)
    assert [message for message in with_text if message["type"] != "agent-delta"] == without
    assert [call.body["stream"] for call in model_server.calls if call.execution_id == first] == [True]


@pytest.mark.slow
async def test_all_live_text_of_a_socket_shares_one_pace(shared_service: Service, gate: Gate, project: str) -> None:
    runs = [await start_run(shared_service, project) for _ in range(4)]
    clock, bus = asyncio.get_running_loop().time, shared_service.services.bus
    async with open_socket(shared_service) as socket:
        for execution_id in runs:
            await socket.ask(type="subscribe", executionId=execution_id, deltas=True)
            assert (await socket.receive())["type"] == "agent-start"
        began = clock()
        for number in range(100):
            for one in runs:
                delta = AgentDelta(execution_id=one, root_execution_id=one, agent_id="a", text=f"{number} ")
                bus.publish_delta(delta)
            await asyncio.sleep(0.005)
        seconds = clock() - began
        gate.opened.set()
        texts: dict[str, list[str]] = {one: [] for one in runs}
        ended = 0
        while ended < len(runs):
            message = await socket.receive()
            ended += message["type"] == "execution-end"
            if message["type"] == "agent-delta":
                texts[message["executionId"]].append(message["text"])

    assert {"".join(some) for some in texts.values()} == {"".join(f"{number} " for number in range(100))}
    assert sum(map(len, texts.values())) <= seconds * 20 + 2 * len(runs)


async def test_nothing_is_delivered_after_unsubscribing(shared_service: Service, gate: Gate, project: str) -> None:
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()

    async with open_socket(shared_service) as socket, open_socket(shared_service) as witness:
        await witness.ask(type="subscribe", executionId=execution_id)
        await socket.ask(type="subscribe", executionId=execution_id)
        assert (await socket.receive())["type"] == "agent-start"
        answer = await socket.ask(type="unsubscribe", executionId=execution_id)
        gate.opened.set()
        await witness.until_end()

        assert answer == {"type": "unsubscribed", "executionId": execution_id}
        assert await socket.is_open()


async def test_one_socket_follows_many_runs_at_once(shared_service: Service, gate: Gate, project: str) -> None:
    runs = [await start_run(shared_service, project) for _ in range(3)]

    async with open_socket(shared_service) as socket:
        for execution_id in runs:
            await socket.send(type="subscribe", executionId=execution_id)
        gate.opened.set()
        ended: dict[str, list[int]] = {one: [] for one in runs}
        endings: list[str] = []
        while len(endings) < len(runs):
            message = await socket.receive()
            if message["type"] == "execution-end":
                endings.append(message["executionId"])
            elif message["type"] != "subscribed":
                ended[message["executionId"]].append(message["seq"])

    assert sorted(endings) == sorted(runs)
    assert set(map(tuple, ended.values())) == {(1, 2, 3)}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ('{"type": "subscribe", "executionId": "exec_unknown"}', "execution-not-found"),
        ("{", "malformed-message"),
        ("[]", "malformed-message"),
        ('"ping"', "malformed-message"),
        ("null", "malformed-message"),
        ("{}", "malformed-message"),
        ('{"type": "shutdown"}', "malformed-message"),
        ('{"type": ["ping"]}', "malformed-message"),
        ('{"type": "ping", "more": 1}', "malformed-message"),
        ('{"type": "pong", "type": "ping"}', "malformed-message"),
        ('{"type": "subscribe", "executionId": "exec_1", "executionId": "exec_2"}', "malformed-message"),
        ('{"type": "ping", "\\ud800": 1}', "malformed-message"),
        ('{"type": "subscribe"}', "malformed-message"),
        ('{"type": "subscribe", "executionId": ""}', "malformed-message"),
        ('{"type": "subscribe", "executionId": 5}', "malformed-message"),
        ('{"type": "subscribe", "executionId": {"$ne": null}}', "malformed-message"),
        ('{"type": "subscribe", "executionId": "\\ud800"}', "malformed-message"),
        ('{"type": "subscribe", "executionId": "a\\u0000b"}', "malformed-message"),
        (json.dumps({"type": "subscribe", "executionId": "x" * 201}), "malformed-message"),
        ('{"type": "subscribe", "executionId": "e", "deltas": "yes"}', "malformed-message"),
        ('{"type": "auth", "token": "there-is-no-such-key"}', "not-authenticated"),
        ("[" * 30_000, "malformed-message"),
        (b'{"type": "ping"}', "malformed-message"),
        ("x" * 65_000, "malformed-message"),
        ("{" + ",".join(f'"{n}":0' for n in range(6000)) + ',"0":0}', "malformed-message"),
        ('{"type": "ping", ' + ",".join(f'"{n}":0' for n in range(1500)) + "}", "malformed-message"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_message_that_cannot_be_answered_gets_an_error_and_the_socket_stays_open(
    shared_service: Service, sent: str | bytes, code: str
) -> None:
    async with open_socket(shared_service) as socket:
        await socket.connection.send(sent)
        answer = await socket.receive()

        assert (answer["type"], answer["code"]) == ("error", code)
        assert set(answer) - {"executionId"} == ERROR_MEMBERS
        assert answer["message"]
        assert await socket.is_open()


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ("abc", "malformed-message"),
        ("1", "malformed-message"),
        (-1, "malformed-message"),
        (1.5, "malformed-message"),
        (True, "malformed-message"),
        (None, "malformed-message"),
        (1e18, "malformed-message"),
        (10**18, "malformed-message"),
        (10**400, "malformed-message"),
        (1, "seq-out-of-range"),
        (2**53, "seq-out-of-range"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_resuming_from_where_nothing_can_be_is_an_error(
    shared_service: Service,
    after: Any,  # noqa: ANN401 - a client may send anything
    code: str,
) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1)

    async with open_socket(shared_service) as socket:
        answer = await socket.ask(type="subscribe", executionId=execution_id, afterSeq=after)

        assert (answer["type"], answer["code"], answer["executionId"]) == ("error", code, execution_id)
        assert await socket.is_open()


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [["x" * (64 * 1024 + 1)], ["x" * 30_000] * 3], ids=["whole", "in fragments"])
async def test_a_message_over_64_kib_closes_its_socket_and_no_other(shared_service: Service, pieces: list[str]) -> None:
    async with open_socket(shared_service) as other, open_socket(shared_service) as socket:
        await socket.connection.send(pieces if len(pieces) > 1 else pieces[0])

        assert await socket.close_code() == 1009
        assert await other.is_open()


@pytest.mark.slow
async def test_the_101st_subscription_is_refused_until_another_is_given_up(shared_service: Service) -> None:
    ids = await insert_foreign_executions(shared_service, 101)

    async with open_socket(shared_service) as socket:
        for execution_id in ids[:100]:
            assert (await socket.ask(type="subscribe", executionId=execution_id))["type"] == "subscribed"
        refused = await socket.ask(type="subscribe", executionId=ids[100])
        again = await socket.ask(type="subscribe", executionId=ids[0])
        await socket.ask(type="unsubscribe", executionId=ids[1])
        accepted = await socket.ask(type="subscribe", executionId=ids[100])

    assert (refused["type"], refused["code"]) == ("error", "too-many-subscriptions")
    assert again["type"] == accepted["type"] == "subscribed"


@pytest.mark.slow
async def test_a_service_that_stops_closes_its_sockets_with_1012(start_service: StartService) -> None:
    async with start_service() as service:
        connection = await connect(service.websocket_url, additional_headers={"X-API-Key": ADMIN_KEY})

    await connection.wait_closed()
    assert connection.close_code == 1012

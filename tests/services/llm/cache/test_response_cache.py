"""The response cache on real stores, between a caller and the scripted model server."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.database.collections import collection_of
from app.database.connection import Database
from app.events.stream.signatures import MessageSigner
from app.kit.redis import redis_client
from app.models.cached_answer import CachedAnswer
from app.services.llm.cache.bounded_store import BoundedStore
from app.services.llm.cache.entries import MAX_ENTRY_BYTES
from app.services.llm.cache.key import DeploymentGroups, key_of
from app.services.llm.cache.response_cache import CachedModels, CacheTimings, ResponseCache
from app.services.llm.cache.stores import AnswerStore, Claim, MongoStore, RedisStore
from app.services.llm.calls import CacheStatus, Completion, TokenUsage
from app.services.llm.failures.errors import AnswerNotCached, ModelCallFailed
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import Call, Json, ModelServer, completion, fault
from tests.fixtures.runs import Gate
from tests.fixtures.valkey import ValkeyProcess

OpenProcess = Callable[..., CachedModels]
QUICK = CacheTimings(claim_seconds=0.5, renew_every_seconds=0.1, longest_wait_seconds=5)
SECRET = b"a secret that only the processes of one database share"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}


@pytest.fixture
def gate() -> Gate:
    """A gate in front of the model's answers."""
    return Gate()


@pytest.fixture(params=["redis", "mongodb"])
async def store(
    request: pytest.FixtureRequest, database: Database, valkey: ValkeyProcess
) -> AsyncGenerator[AnswerStore]:
    """Each store, empty."""
    async with AsyncExitStack() as stack:
        if request.param == "mongodb":
            yield MongoStore(collection_of(database, CachedAnswer))
            return
        redis = redis_client(valkey.url)
        stack.push_async_callback(redis.aclose)
        yield RedisStore(redis, SECRET)


@pytest.fixture
def open_process(open_gateway: OpenGateway, model_server: ModelServer, store: AnswerStore) -> OpenProcess:
    """Open what a process has: a gateway, and a cache with flights of its own on the common store."""

    def open_one(ttl_seconds: float = 60, timings: CacheTimings = QUICK, answer_seconds: float = 5) -> CachedModels:
        gateway = open_gateway(entry(model_server, input_cost_per_token=1e-6, output_cost_per_token=2e-6))
        groups = DeploymentGroups(gateway.usable_entries, gateway.table)
        bounded = BoundedStore(store, answer_seconds)
        return CachedModels(gateway, ResponseCache(bounded, groups, MessageSigner(SECRET), ttl_seconds, timings))

    return open_one


def status(answer: Completion) -> CacheStatus:
    """The part that the cache had in an answer."""
    return answer.calls[-1].cache_status


@pytest.mark.slow
async def test_the_second_request_is_a_hit_with_its_savings(
    open_process: OpenProcess, model_server: ModelServer
) -> None:
    models = open_process()
    first = await models.complete(request())

    second = await open_process().complete(request(execution_id="exec_2", attempt=3))

    assert len(model_server.calls) == 1
    assert (status(first), status(second)) == (CacheStatus.MISS, CacheStatus.HIT)
    assert second.is_cached
    assert not first.is_cached
    assert (second.text, second.finish_reason, second.model) == (first.text, first.finish_reason, first.model)
    assert (second.usage, second.cost_usd) == (TokenUsage(), 0.0)
    row = second.calls[-1].as_json()
    assert (row["executionId"], row["attempt"], row["outcome"]) == ("exec_2", 3, "ok")
    assert (row["cached"], row["cacheStatus"], row["costUsd"], row["inputTokens"]) == (True, "hit", 0.0, 0)
    assert (row["savedTokens"], row["savedCostUsd"], row["priceStatus"]) == (15, pytest.approx(2e-5), "priced")
    assert first.calls[-1].call_id != second.calls[-1].call_id


async def test_tool_calls_come_back_as_the_model_requested_them(
    open_process: OpenProcess, model_server: ModelServer
) -> None:
    model_server.on("*", completion("Let me see.", ("echo", {"a": 1}), ("echo", {"a": 2})))
    models = open_process()

    first, second = await models.complete(request()), await models.complete(request())

    assert second.tool_calls == first.tool_calls
    assert len(second.tool_calls) == 2
    assert status(second) is CacheStatus.HIT


@pytest.mark.slow
async def test_a_streamed_hit_sends_its_text_as_one_delta(open_process: OpenProcess, model_server: ModelServer) -> None:
    models = open_process()
    first = await models.complete(request())
    deltas: list[str] = []

    await models.complete(request(on_delta=deltas.append))

    assert deltas == [first.text]
    assert len(model_server.calls) == 1


@pytest.mark.slow
async def test_a_request_can_bypass_the_cache(open_process: OpenProcess, model_server: ModelServer) -> None:
    models = open_process()
    await models.complete(request())

    answer = await models.complete(request(use_cache=False))

    assert len(model_server.calls) == 2
    assert status(answer) is CacheStatus.BYPASSED


@pytest.mark.slow
async def test_an_entry_expires(open_process: OpenProcess, model_server: ModelServer) -> None:
    models = open_process(ttl_seconds=0.3)
    await models.complete(request())
    assert status(await models.complete(request())) is CacheStatus.HIT

    await asyncio.sleep(0.4)

    assert status(await models.complete(request())) is CacheStatus.MISS
    assert len(model_server.calls) == 2
    assert status(await models.complete(request())) is CacheStatus.HIT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (completion("Cut o", finish_reason="length"), {}),
        (completion("x" * MAX_ENTRY_BYTES), {}),
        (completion('{"a": "no number"}'), {"response_format": FORMAT}),
        (completion("no object"), {"response_format": FORMAT}),
    ],
    ids=["cut", "too large", "wrong", "no JSON"],
)
async def test_answers_that_a_caller_cannot_use_are_not_stored(
    open_process: OpenProcess, model_server: ModelServer, answer: Json, fields: dict[str, Any]
) -> None:
    model_server.on("*", answer)
    models = open_process()

    await models.complete(request(**fields))
    again = await models.complete(request(**fields))

    assert len(model_server.calls) == 2
    assert status(again) is CacheStatus.MISS


@pytest.mark.slow
async def test_a_structured_answer_that_matches_is_stored(open_process: OpenProcess, model_server: ModelServer) -> None:
    model_server.on("*", '{"a": 1}')
    models = open_process()
    await models.complete(request(response_format=FORMAT))

    assert status(await models.complete(request(response_format=FORMAT))) is CacheStatus.HIT


@pytest.mark.slow
async def test_a_failed_call_is_not_stored(open_process: OpenProcess, model_server: ModelServer) -> None:
    model_server.on("*", fault(500))
    models = open_process()
    with pytest.raises(ModelCallFailed) as failed:
        await models.complete(request())
    assert failed.value.calls[-1].cache_status is CacheStatus.MISS
    model_server.reset()

    assert status(await models.complete(request())) is CacheStatus.MISS


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
async def test_fifty_identical_requests_at_once_share_one_call(
    open_process: OpenProcess, model_server: ModelServer, gate: Gate, processes: int
) -> None:
    model_server.on("*", lambda _: gate.passed("Done."))
    opened = [open_process() for _ in range(processes)]
    asked = [asyncio.create_task(opened[n % processes].complete(request(execution_id=f"exec_{n}"))) for n in range(50)]
    await asyncio.sleep(0.8)  # longer than a claim that is not renewed

    gate.open()
    answers = await asyncio.gather(*asked)

    assert len(model_server.calls) == 1
    assert {answer.text for answer in answers} == {"Done."}
    assert sorted(status(answer).value for answer in answers) == ["hit"] * 49 + ["miss"]
    assert sum(answer.usage.input + answer.usage.output for answer in answers) == 15


@pytest.mark.slow
async def test_followers_of_a_failed_call_make_their_own(
    open_process: OpenProcess, model_server: ModelServer, gate: Gate
) -> None:
    def first_fails(_: Call) -> object:
        return gate.passed(fault(500)) if len(model_server.calls) == 1 else "Done."

    model_server.on("*", first_fails)  # pyright: ignore[reportArgumentType]
    models = open_process()
    leader, *followers = [asyncio.create_task(models.complete(request())) for _ in range(4)]
    await asyncio.sleep(0.1)

    gate.open()
    answers = await asyncio.gather(*followers)

    with pytest.raises(ModelCallFailed):
        await leader
    assert [answer.text for answer in answers] == ["Done."] * 3
    assert len(model_server.calls) == 4


@pytest.mark.slow
async def test_a_cancelled_leader_does_not_cancel_its_followers(
    open_process: OpenProcess, model_server: ModelServer, gate: Gate
) -> None:
    model_server.on("*", lambda _: gate.passed("Done."))
    models = open_process()
    leader, *followers = [asyncio.create_task(models.complete(request())) for _ in range(4)]
    await asyncio.sleep(0.2)

    leader.cancel()
    await asyncio.sleep(0.2)
    gate.open()
    answers = await asyncio.gather(*followers)

    assert leader.cancelled()
    assert [answer.text for answer in answers] == ["Done."] * 3
    assert len(model_server.calls) == 2


@pytest.mark.slow
async def test_a_cancelled_follower_leaves_the_others(
    open_process: OpenProcess, model_server: ModelServer, gate: Gate
) -> None:
    model_server.on("*", lambda _: gate.passed("Done."))
    models = open_process()
    leader, follower, other = [asyncio.create_task(models.complete(request())) for _ in range(3)]
    await asyncio.sleep(0.1)

    follower.cancel()
    await asyncio.sleep(0)
    gate.open()

    assert [answer.text for answer in await asyncio.gather(leader, other)] == ["Done."] * 2
    assert len(model_server.calls) == 1


@pytest.mark.slow
async def test_another_process_takes_over_when_the_leading_one_dies(
    open_process: OpenProcess, model_server: ModelServer, store: AnswerStore
) -> None:
    models = open_process()
    key = key_of(request(), models.cache.groups)
    assert await store.look(key, "of a process that dies", 400) is Claim.OWN
    assert await store.look(key, "another", 400) is Claim.TAKEN

    async with asyncio.timeout(3):
        answer = await models.complete(request())

    assert status(answer) is CacheStatus.MISS
    assert len(model_server.calls) == 1


@pytest.mark.slow
async def test_the_wait_for_another_process_is_bounded(
    open_process: OpenProcess, model_server: ModelServer, store: AnswerStore
) -> None:
    models = open_process(timings=replace(QUICK, longest_wait_seconds=0.2))
    await store.look(key_of(request(), models.cache.groups), "of a slow process", 60_000)

    async with asyncio.timeout(3):
        answer = await models.complete(request())

    assert status(answer) is CacheStatus.MISS
    assert len(model_server.calls) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["empty", "cut", "changed", "foreign"])
async def test_a_damaged_entry_is_a_miss_and_is_replaced(
    open_process: OpenProcess, model_server: ModelServer, store: AnswerStore, kind: str
) -> None:
    models = open_process()
    await models.complete(request())
    key = key_of(request(), models.cache.groups)
    whole = await store.look(key, "x", 1)
    assert isinstance(whole, bytes)
    damaged = {
        "empty": b"",
        "cut": whole[:-5],
        "changed": whole.replace(b"work", b"w0rk"),
        "foreign": MessageSigner(b"another").sign(key, whole[32:]),
    }[kind]
    await store.keep(key, damaged, 60_000)

    assert status(await models.complete(request())) is CacheStatus.MISS
    assert status(await models.complete(request())) is CacheStatus.HIT
    assert len(model_server.calls) == 2


async def test_a_request_that_wants_only_a_cached_answer_calls_and_claims_nothing(
    open_process: OpenProcess, model_server: ModelServer, store: AnswerStore
) -> None:
    models, wanted = open_process(), request(only_cached=True)
    with pytest.raises(AnswerNotCached):
        await models.complete(wanted)
    assert await store.look(key_of(wanted, models.cache.groups), "mine", 1) is Claim.OWN
    await models.complete(request())

    found = await models.complete(wanted)

    assert status(found) is CacheStatus.HIT
    assert len(model_server.calls) == 1
    for caller, refused in ((models, replace(wanted, use_cache=False)), (models.following, wanted)):
        with pytest.raises(AnswerNotCached):
            await caller.complete(refused)
    await store.keep(key_of(wanted, models.cache.groups), b"damaged", 60_000)
    with pytest.raises(AnswerNotCached):
        await models.complete(wanted)


@pytest.mark.slow
async def test_only_the_owner_ends_or_renews_a_claim(store: AnswerStore) -> None:
    assert await store.look("key", "mine", 60_000) is Claim.OWN

    await store.release("key", "other")
    await store.renew("key", "other", 1)
    assert await store.look("key", "other", 60_000) is Claim.TAKEN

    await store.release("key", "mine")
    assert await store.look("key", "other", 60_000) is Claim.OWN


@pytest.mark.slow
@pytest.mark.parametrize("store", ["redis"], indirect=True)
@pytest.mark.parametrize("way", ["stop", "freeze"])
async def test_runs_continue_while_the_store_is_down(
    open_process: OpenProcess, model_server: ModelServer, valkey: ValkeyProcess, way: str
) -> None:
    models = open_process(answer_seconds=0.25)
    await models.complete(request())
    if way == "stop":
        await valkey.stop()
    else:
        valkey.freeze()

    with capture_logs() as logs:
        async with asyncio.timeout(3):
            answers = [await models.complete(request()) for _ in range(3)]

    assert [status(answer) for answer in answers] == [CacheStatus.MISS] * 3
    assert len(model_server.calls) == 4
    assert [row["event"] for row in logs].count("response-cache-unavailable") == 1


async def test_mongodb_removes_old_entries_itself(database: Database) -> None:
    indexes = await collection_of(database, CachedAnswer).index_information()

    assert indexes["expiresAt_1"]["expireAfterSeconds"] == 0

"""The response cache of a process, and the link of the model chain that queries it.

Identical requests in flight share one call. Within a process, they await its future. Across processes, the holder of
the claim in the store makes the call, and the others poll until the entry exists. Only answers that are stored are
shared: after an error or an answer that is not stored, the waiting requests make their own calls.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from app.events.stream.signatures import MessageSigner
from app.kit.concurrency import end_tasks
from app.kit.times import utc_now
from app.services.llm.cache.bounded_store import BoundedStore
from app.services.llm.cache.entries import StoredAnswer, stored_answer
from app.services.llm.cache.key import DeploymentGroups, key_of
from app.services.llm.cache.stores import Claim
from app.services.llm.calls import CacheStatus, Completion, ModelCall, ModelCaller, ModelRequest
from app.services.llm.failures.errors import AnswerNotCached, ModelCallFailed
from app.telemetry.metrics import CACHE_REQUESTS


@dataclass(frozen=True)
class CacheTimings:
    """The times of the cache, in seconds."""

    claim_seconds: float = 10.0
    """After this time, the claim of a process that died no longer counts."""
    renew_every_seconds: float = 3.0
    first_pause_seconds: float = 0.02
    longest_pause_seconds: float = 0.25
    """The pauses between polls for an entry that another process is creating; they double."""
    longest_wait_seconds: float = 120.0
    """How long another process may take; after that, a waiting request makes its own call."""


DEFAULT_TIMINGS = CacheTimings()


class Unshared(Enum):
    """Why a call in flight has no answer for the requests that waited for it."""

    UNUSABLE = "unusable"
    """It failed, or its answer is not stored: each makes its own call."""
    CANCELLED = "cancelled"
    """Its run was cancelled: the next one takes its place."""


Flight = asyncio.Future[StoredAnswer | Unshared]


@dataclass
class ResponseCache:
    """The answers that the processes of a database share, and the calls of this process that are in flight.

    Each entry is signed with its key, so that damaged and foreign entries are misses.
    """

    store: BoundedStore
    groups: DeploymentGroups
    signer: MessageSigner
    ttl_seconds: float
    timings: CacheTimings = DEFAULT_TIMINGS
    flights: dict[str, Flight] = field(default_factory=dict[str, Flight])

    async def find_or_claim(self, key: str, claim: str) -> StoredAnswer | Claim:
        """Return the stored answer, or who may call the model; waits while another process does so.

        Returns:
            An answer; `OWN` if the caller has the claim; otherwise the caller asks the model without one.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timings.longest_wait_seconds
        pause = self.timings.first_pause_seconds
        while True:
            found = await self.store.look(key, claim, int(self.timings.claim_seconds * 1000))
            if isinstance(found, bytes):
                return self._opened(key, found) or Claim.UNAVAILABLE
            if found is not Claim.TAKEN or loop.time() >= deadline:
                return found
            await asyncio.sleep(pause)
            pause = min(pause * 2, self.timings.longest_pause_seconds)

    async def find(self, key: str) -> StoredAnswer | None:
        """Return the stored answer, if there is one; waits for no other process."""
        found = await self.store.find(key)
        return None if found is None else self._opened(key, found)

    def _opened(self, key: str, entry: bytes) -> StoredAnswer | None:
        body = self.signer.open(key, entry)
        return None if body is None else StoredAnswer.from_bytes(body)

    async def keep(self, key: str, answer: StoredAnswer) -> bool:
        """Store an answer and end the claim on it; returns whether it can be stored."""
        body = answer.as_bytes()
        if body is None:
            return False
        await self.store.keep(key, self.signer.sign(key, body), int(self.ttl_seconds * 1000))
        return True

    @asynccontextmanager
    async def renewing(self, key: str, claim: str) -> AsyncGenerator[None]:
        """Renew a claim for as long as the context lasts."""
        renewal = asyncio.create_task(self._renew(key, claim), name="response-cache claim")
        try:
            yield
        finally:
            await end_tasks(renewal)

    async def _renew(self, key: str, claim: str) -> None:
        while True:
            await asyncio.sleep(self.timings.renew_every_seconds)
            await self.store.renew(key, claim, int(self.timings.claim_seconds * 1000))


@dataclass(frozen=True)
class CachedModels:
    """Answers requests from the response cache; the next link answers the others."""

    following: ModelCaller
    cache: ResponseCache

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            AnswerNotCached: only a cached answer was wanted, and the cache has no answer.
            ModelCallFailed: there was no cached answer, and the call failed.
        """
        if request.only_cached:
            return await self._find(request)
        if not request.use_cache:
            CACHE_REQUESTS.labels("bypass").inc()
            return await self.following.complete(request)
        started_at, key = utc_now(), key_of(request, self.cache.groups)
        while (flight := self.cache.flights.get(key)) is not None:
            shared = await asyncio.shield(flight)
            if isinstance(shared, StoredAnswer):
                return hit(request, shared, started_at)
            if shared is Unshared.UNUSABLE:
                return (await self._ask(request))[0]
        return await self._lead(request, key, started_at)

    async def _find(self, request: ModelRequest) -> Completion:
        """Return the cached answer; a request without one makes a call later, which is then the miss.

        Raises:
            AnswerNotCached: the cache has no answer.
        """
        started_at = utc_now()
        found = await self.cache.find(key_of(request, self.cache.groups)) if request.use_cache else None
        if found is None:
            raise AnswerNotCached
        return hit(request, found, started_at)

    async def _lead(self, request: ModelRequest, key: str, started_at: datetime) -> Completion:
        """Answer a request and the identical ones that arrive meanwhile."""
        flight: Flight = asyncio.get_running_loop().create_future()
        self.cache.flights[key] = flight
        outcome: StoredAnswer | Unshared = Unshared.CANCELLED
        claim, found = secrets.token_hex(8), Claim.UNAVAILABLE
        try:
            found = await self.cache.find_or_claim(key, claim)
            if isinstance(found, StoredAnswer):
                outcome = found
                return hit(request, found, started_at)
            if found is not Claim.OWN:
                completion, outcome = await self._ask_and_keep(request, key)
                return completion
            async with self.cache.renewing(key, claim):
                completion, outcome = await self._ask_and_keep(request, key)
                return completion
        except Exception:
            outcome = Unshared.UNUSABLE
            raise
        finally:
            del self.cache.flights[key]
            flight.set_result(outcome)
            if found is Claim.OWN and not isinstance(outcome, StoredAnswer):
                await self.cache.store.release(key, claim)

    async def _ask_and_keep(self, request: ModelRequest, key: str) -> tuple[Completion, StoredAnswer | Unshared]:
        completion, answer = await self._ask(request)
        if answer is None or not await self.cache.keep(key, answer):
            return completion, Unshared.UNUSABLE
        return completion, answer

    async def _ask(self, request: ModelRequest) -> tuple[Completion, StoredAnswer | None]:
        """Return the model's answer, and its stored form if it is complete; the ledger row is a miss."""
        CACHE_REQUESTS.labels("miss").inc()
        try:
            completion = await self.following.complete(request)
        except ModelCallFailed as error:
            error.calls = missed(error.calls)
            raise
        if request.also_answers is not None:
            await self._keep_parts(request, request.also_answers(completion))
        return replace(completion, calls=missed(completion.calls)), stored_answer(request, completion)

    async def _keep_parts(self, request: ModelRequest, parts: Iterable[tuple[ModelRequest, Completion]]) -> None:
        """Store the answers to the requests that were answered along with one."""
        for part, completion in parts:
            answer = stored_answer(part, completion)
            if answer is not None:
                await self.cache.keep(key_of(replace(part, scope=request.scope), self.cache.groups), answer)


def missed(calls: tuple[ModelCall, ...]) -> tuple[ModelCall, ...]:
    """Return the rows of a call that the cache could not answer; only the last is a miss, as there was one lookup."""
    return (*calls[:-1], replace(calls[-1], cache_status=CacheStatus.MISS)) if calls else ()


def hit(request: ModelRequest, answer: StoredAnswer, started_at: datetime) -> Completion:
    """Return a cached answer; a streamed request receives its text as one delta."""
    CACHE_REQUESTS.labels("hit").inc()
    if request.on_delta is not None and answer.text:
        request.on_delta(answer.text)
    duration_ms = max(round((utc_now() - started_at).total_seconds() * 1000), 0)
    return answer.as_completion(request, started_at, duration_ms)

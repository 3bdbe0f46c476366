"""Verdicts and the response cache: each counts by itself, whichever outputs were judged in one call with it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from app.events.types import QualityCheck
from app.kit.json_values import JsonObject
from app.services.llm.cache.response_cache import CachedModels
from app.services.llm.calls import CallScope, Completion, ModelCaller, ModelRequest
from app.services.llm.context.window import ContextRules, ContextWindow
from app.services.quality.batch_judge import BatchJudge
from app.services.quality.judge import Submission
from app.services.runs.material.sent_prompts import KeptPrompts
from app.services.runs.spending.budgeted_models import BudgetedModels
from app.services.runs.work.model_calls import model_chain, unchanged
from app.services.usage.budgets.amounts import Amount
from app.services.usage.budgets.run_budget import RunBudget
from tests.fixtures.model_server import ModelServer
from tests.fixtures.runs import write_models
from tests.fixtures.services import PROJECT, Service, StartService
from tests.services.quality.test_batch_judge import AGENTS, LARGE, agents_asked, by_schema, submissions

Link = Callable[[ModelCaller], ModelCaller]
pytestmark = pytest.mark.usefixtures("patient_cache")


@pytest.fixture
async def cached_service(
    start_service: StartService, model_server: ModelServer, tmp_path: Path
) -> AsyncGenerator[Service]:
    """A service whose cache is in MongoDB, and may take long on a busy machine."""
    models = write_models(tmp_path / "models.yaml", model_server.url)
    async with start_service(models_config=models, response_cache_ttl_seconds=60) as running:
        cache = running.services.engine.context.response_cache
        assert cache is not None
        cache.store.answer_seconds = 20
        yield running


@dataclass
class Looking:
    """The models of a run, which note the requests that want only a cached answer."""

    following: ModelCaller
    looks: list[ModelRequest] = field(default_factory=list[ModelRequest])

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request."""
        if request.only_cached:
            self.looks.append(request)
        return await self.following.complete(request)


def no_note(*_: object) -> None:
    """Note nothing of a retry."""


def models_of(
    service: Service, *, use_cache: bool = True, kept: Link = unchanged, budgeted: Link = unchanged
) -> Looking:
    """The model calls of a run, as its tree makes them."""
    cache = service.services.engine.context.response_cache
    assert cache is not None
    chain = model_chain(
        service.services.models,
        window=ContextWindow(ContextRules()),
        note_retry=no_note,
        ensure_owned=lambda: None,
        cached=partial(CachedModels, cache=cache),
        scope_of=lambda _: CallScope("exec_root", project=PROJECT),
        use_cache=use_cache,
        kept=kept,
        budgeted=budgeted,
    )
    return Looking(chain)


async def judged(models: ModelCaller, submitted: list[Submission]) -> list[QualityCheck]:
    """The verdicts on outputs that are ready at once."""
    bench = BatchJudge(models, lambda _: LARGE)

    async def one(submission: Submission) -> QualityCheck:
        with bench.at_work():
            await asyncio.sleep(0)
        return await bench.judge(submission, 20)

    return list(await asyncio.gather(*map(one, submitted)))


def rows_of(check: QualityCheck) -> list[JsonObject]:
    """The ledger rows of a verdict."""
    return check.calls or []


def statuses(checks: list[QualityCheck]) -> list[str]:
    """The part that the cache had in each verdict."""
    return [row["cacheStatus"] for check in checks for row in rows_of(check)]


async def test_a_verdict_of_a_batch_is_found_again_in_any_company(
    cached_service: Service, model_server: ModelServer
) -> None:
    model_server.on("judge", by_schema())
    submitted = await submissions(cached_service)
    first = await judged(models_of(cached_service), submitted)
    made = len(model_server.calls)
    changed = replace(submitted[1], output="Other work.")

    alone = await judged(models_of(cached_service), submitted[2:])
    others = await judged(models_of(cached_service), [submitted[0], changed])

    assert [check.judged_together for check in first] == [3, 3, 3]
    assert statuses(first) == ["miss"] * 3
    assert statuses([*alone, *others]) == ["hit", "hit", "miss"]
    assert [check.score for check in (*alone, *others)] == [0.3, 0.9, 0.6]
    assert [agents_asked(call) for call in model_server.calls[made:]] == [[]]
    (hit,), (paid,) = (rows_of(check) for check in (alone[0], first[2]))
    assert (hit["inputTokens"], hit["costUsd"]) == (0, 0)
    assert hit["savedTokens"] == paid["inputTokens"] + paid["outputTokens"]
    assert "batchId" not in hit


async def test_a_verdict_of_a_call_of_its_own_is_found_again_beside_others(
    cached_service: Service, model_server: ModelServer
) -> None:
    model_server.on("judge", by_schema())
    submitted = await submissions(cached_service)
    await judged(models_of(cached_service), submitted[:1])

    checks = await judged(models_of(cached_service), submitted)

    assert statuses(checks) == ["hit", "miss", "miss"]
    assert [agents_asked(call) for call in model_server.calls] == [[], list(AGENTS[1:])]


async def test_only_valid_verdicts_of_a_batch_are_stored(cached_service: Service, model_server: ModelServer) -> None:
    def without_the_last(rows: list[JsonObject]) -> list[JsonObject]:
        return rows[:-1]

    model_server.on("judge", by_schema(without_the_last))
    submitted = await submissions(cached_service)
    await judged(models_of(cached_service), submitted)
    made = len(model_server.calls)

    await judged(models_of(cached_service), submitted)

    assert made == 2  # the batch, and the last output alone
    assert len(model_server.calls) == made


async def test_a_run_that_bypasses_the_cache_looks_for_no_verdict(
    cached_service: Service, model_server: ModelServer
) -> None:
    model_server.on("judge", by_schema())
    submitted = await submissions(cached_service)
    await judged(models_of(cached_service), submitted)
    models = models_of(cached_service, use_cache=False)

    checks = await judged(models, submitted)

    assert statuses(checks) == ["bypassed"] * 3
    assert len(model_server.calls) == 2


async def test_looking_for_a_verdict_is_no_call(cached_service: Service, model_server: ModelServer) -> None:
    model_server.on("judge", by_schema())
    models = models_of(cached_service)

    checks = await judged(models, (await submissions(cached_service))[:2])

    assert len(models.looks) == 2
    assert len(model_server.calls) == 1
    assert [len(check.calls or ()) for check in checks] == [1, 1]


async def test_messages_are_kept_only_where_they_have_an_answer(
    cached_service: Service, model_server: ModelServer
) -> None:
    model_server.on("judge", by_schema())
    kept: list[str] = []

    async def keep(messages: list[JsonObject]) -> str:
        kept.append(str(messages[-1]["content"]))
        return f"hash {len(kept)}"

    models = models_of(cached_service, kept=partial(KeptPrompts, keep=keep))
    submitted = await submissions(cached_service)

    together = await judged(models, submitted[:2])
    again = await judged(models, submitted[:1])

    assert len(kept) == 2  # the batch, and the verdict that was found
    assert [check.prompt_hash for check in (*together, *again)] == ["hash 1", "hash 1", "hash 2"]
    assert submitted[1].agent.agent_id in kept[0]
    assert submitted[1].agent.agent_id not in kept[1]


async def test_looking_for_a_verdict_reserves_nothing(cached_service: Service, model_server: ModelServer) -> None:
    model_server.on("judge", by_schema())
    submitted = await submissions(cached_service)
    await judged(models_of(cached_service), submitted[:2])
    budget = RunBudget(max_tokens=100)

    budgeted = partial(
        BudgetedModels,
        budgets=None,
        run_budget=budget,
        root_id="exec_root",
        worst_case=lambda _: Amount(80, None),
        note_mark=no_note,
    )
    checks = await judged(models_of(cached_service, budgeted=budgeted), submitted)

    assert statuses(checks) == ["hit", "hit", "miss"]
    assert (budget.used.tokens, budget.reserved.tokens) == (15, 0)

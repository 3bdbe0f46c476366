"""The judge of several outputs in one call: those of a department that are ready at about the same time.

A batched verdict is checked and scored exactly like a single one. An output without a valid verdict in the batch is
judged alone. The tokens and cost of a batch are divided among its outputs so that they add up exactly.

Which outputs meet in a batch depends on time, so a repeated run seldom has the same batches. Each verdict is therefore
cached under the request that asks for it alone, and outputs with a cached verdict join no batch.
"""

import asyncio
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import uuid4

import structlog

from app.events.types import QualityCheck
from app.kit.concurrency import all_of
from app.kit.json_values import JsonObject
from app.services.llm.calls import (
    COST_DECIMALS,
    Completion,
    ModelCall,
    ModelCaller,
    ModelRequest,
    RunPurpose,
    TokenUsage,
    add_costs,
    sum_of,
)
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.messages.structured_output import AnswerSchema, StructuredAnswer, parse_object
from app.services.prompts.fences import system_message, user_message
from app.services.prompts.judge import (
    BATCH_SYSTEM_PROMPT,
    MAX_OUTPUT_CHARACTERS,
    batch_prompt,
    batch_schema,
    judge_context,
)
from app.services.quality.judge import (
    JUDGE_ANSWER,
    JUDGE_MAX_TOKENS,
    JUDGE_TEMPERATURE,
    Submission,
    find_verdict,
    judge_output,
    judge_request,
    unscored,
    verdict,
)
from app.services.usage.budgets.errors import BudgetRefused

MAX_BATCH = 8
CHARACTERS_A_TOKEN = 3
"""Fewer than usual, because a batch that is rejected for its length would waste a call."""
CONTEXT_SHARE = 0.5
PATIENCE = 0.05
"""How long a finished specialist waits for others, as a share of the time that it worked."""
LEAST_PATIENCE_SECONDS = 0.005
MOST_PATIENCE_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class PendingJudgment:
    """A submission that waits for its verdict."""

    submission: Submission
    done: asyncio.Future[QualityCheck]


@dataclass
class BatchJudge:
    """The judge of one department run; `context_tokens` returns a model's context, `None` if it is unknown.

    Outputs are judged together if they have the same judge, whose context is known. The first caller waits briefly for
    others, but only while others work, and then judges for all callers that wait.
    """

    models: ModelCaller
    context_tokens: Callable[[str], int | None]
    _working: int = field(default=0, init=False)
    _waiting: list[PendingJudgment] = field(default_factory=list[PendingJudgment], init=False)
    _all_idle: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Mark the time of a specialist's work, whose output may be judged soon."""
        self._working += 1
        self._all_idle.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._all_idle.set()

    async def judge(self, submission: Submission, worked_seconds: float) -> QualityCheck:
        """Judge an output, alone or together with others that are ready."""
        if self.context_tokens(submission.model) is None:
            return await judge_output(self.models, submission)
        with self.at_work():  # callers that are already waiting also wait for this one
            known = await find_verdict(self.models, submission)
        if known is not None:
            return known
        item = PendingJudgment(submission, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        if len(self._waiting) == 1:
            await self._wait_for_others(worked_seconds)
            items, self._waiting = self._waiting, []
            await self._judge_all(items)
        return await item.done

    async def _wait_for_others(self, worked_seconds: float) -> None:
        patience = min(max(worked_seconds * PATIENCE, LEAST_PATIENCE_SECONDS), MOST_PATIENCE_SECONDS)
        try:
            async with asyncio.timeout(patience):
                while True:
                    await self._all_idle.wait()
                    await asyncio.sleep(0)  # specialists that finish in the same turn of the loop join the batch too
                    if not self._working:
                        return
        except TimeoutError:
            return

    async def _judge_all(self, items: list[PendingJudgment]) -> None:
        """Judge for all waiting callers; if this is cancelled, so are they."""
        try:
            await all_of(self._judge_some(some) for some in self._batches(items))
        finally:
            for item in items:
                if not item.done.done():
                    item.done.cancel()

    def _batches(self, items: list[PendingJudgment]) -> list[list[PendingJudgment]]:
        """Group the submissions of each judge into as few calls as its context allows.

        Their order is that of their agents, so that the same outputs make the same prompt, whichever finished first.
        """
        ordered = sorted(items, key=lambda item: item.submission.agent.agent_id)
        models = dict.fromkeys(item.submission.model for item in ordered)
        return [
            batch
            for model in models
            for batch in self._batches_of(model, [item for item in ordered if item.submission.model == model])
        ]

    def _batches_of(self, model: str, items: list[PendingJudgment]) -> list[list[PendingJudgment]]:
        room = int((self.context_tokens(model) or 0) * CHARACTERS_A_TOKEN * CONTEXT_SHARE)
        room -= len(items[0].submission.material.context)
        batches: list[list[PendingJudgment]] = []
        taken = 0
        for item in items:
            size = size_of(item.submission)
            if not batches or taken + size > room or len(batches[-1]) >= MAX_BATCH:
                batches.append([])
                taken = 0
            batches[-1].append(item)
            taken += size
        return batches

    async def _judge_some(self, items: list[PendingJudgment]) -> None:
        """Judge one batch; each of its callers raises an error of the call."""
        submissions = [item.submission for item in items]
        try:
            if len(items) == 1:
                checks = [await judge_output(self.models, submissions[0])]
            else:
                checks = await judge_together(self.models, submissions)
        except Exception as error:  # noqa: BLE001 - the waiting callers raise it
            for item in items:
                if not item.done.done():
                    item.done.set_exception(error)
            return
        for item, check in zip(items, checks, strict=True):
            if not item.done.done():
                item.done.set_result(check)


def size_of(submission: Submission) -> int:
    """Estimate the characters of a submission in a prompt."""
    texts = (submission.brief.request, submission.brief.task or "", submission.output)
    return sum(min(len(text), MAX_OUTPUT_CHARACTERS) for text in texts)


async def judge_together(models: ModelCaller, submissions: Sequence[Submission]) -> list[QualityCheck]:
    """Judge several outputs of one department in one call where possible, and return the verdicts in order."""
    agent_ids = [one.agent.agent_id for one in submissions]
    parts = [(one.agent.agent_id, one.brief, one.output) for one in submissions]
    truncated = frozenset(one.agent.agent_id for one in submissions if one.truncated)
    schema = AnswerSchema("quality_judgments", batch_schema(agent_ids))
    slug, material = submissions[0].agent.department.slug, submissions[0].material
    criteria = {one.agent.agent_id: one.material.agent_criteria for one in submissions}
    call = ModelRequest(
        model=submissions[0].model,
        shared=judge_context(slug, material) if material.context else None,
        messages=[
            system_message(BATCH_SYSTEM_PROMPT),
            user_message(batch_prompt(slug, parts, truncated, material, criteria)),
        ],
        purpose=RunPurpose.JUDGE,
        execution_id=submissions[0].execution_id,
        response_format=schema.response_format,
        temperature=JUDGE_TEMPERATURE,
        max_tokens=JUDGE_MAX_TOKENS * len(submissions),
        also_answers=partial(verdicts_alone, submissions, schema),
    )
    try:
        completion = await models.complete(call)
    except ModelCallFailed as error:
        log.warning("batch-not-judged", count=len(submissions), code=error.code)
        shares = shares_of(error.calls, submissions)
        checks = await all_of(judge_alone(models, one) for one in submissions)
        return [with_calls(check, share) for check, share in zip(checks, shares, strict=True)]
    value, _ = parse_object(completion.text, schema)
    valid = valid_verdicts(value, agent_ids)
    shares = shares_of(completion.calls, submissions)
    return await all_of(
        one_of_batch(models, one, valid.get(one.agent.agent_id), completion, share, len(submissions))
        for one, share in zip(submissions, shares, strict=True)
    )


def verdicts_alone(
    submissions: Sequence[Submission], schema: AnswerSchema, completion: Completion
) -> Iterator[tuple[ModelRequest, Completion]]:
    """Yield the valid verdicts of a batch as the answers to calls of their own, each with its share of the cost."""
    valid = valid_verdicts(parse_object(completion.text, schema)[0], [one.agent.agent_id for one in submissions])
    for one, share in zip(submissions, shares_of(completion.calls[-1:], submissions), strict=True):
        if given := valid.get(one.agent.agent_id):
            alone = replace(completion, text=json.dumps(given), reasoning=None, provider_data=None, calls=share)
            yield judge_request(one), alone


async def one_of_batch(
    models: ModelCaller,
    submission: Submission,
    value: JsonObject | None,
    completion: Completion,
    share: tuple[ModelCall, ...],
    together: int,
) -> QualityCheck:
    """Return the check of one output in a batch; without a valid verdict it is judged alone and bears both costs."""
    if value is not None:
        answer = StructuredAnswer(value, True, [], share, completion.model, completion.text, completion.prompt_hash)
        return verdict(submission, answer).model_copy(update={"judged_together": together})
    alone = with_calls(await judge_alone(models, submission), share)
    return alone.model_copy(update={"judged_together": together})


async def judge_alone(models: ModelCaller, submission: Submission) -> QualityCheck:
    """Return the check of one output of a batch that was of no use; an exhausted budget leaves it without a score.

    The calls of the batch are then still recorded. The next call of the tree ends it.
    """
    try:
        return await judge_output(models, submission)
    except BudgetRefused as error:
        return with_calls(unscored(submission, f"The judge could not answer: {error.message}"), error.calls)


def with_calls(check: QualityCheck, calls: tuple[ModelCall, ...]) -> QualityCheck:
    """Return the check with earlier calls, their usage and their cost added to its own."""
    if not calls:
        return check
    usage, cost = sum_of(calls)
    if check.usage:
        usage, cost = usage + TokenUsage.from_json(check.usage), add_costs(cost, check.cost_usd)
    rows = [*(call.as_json() for call in calls), *(check.calls or ())]
    return check.model_copy(update={"usage": usage.as_json(), "cost_usd": cost, "calls": rows})


def valid_verdicts(value: JsonObject | None, agent_ids: list[str]) -> dict[str, JsonObject]:
    """Return the usable verdicts of a batch by agent; two verdicts on one agent are unusable."""
    rows = value.get("verdicts") if value else None
    found: dict[str, list[JsonObject]] = {agent_id: [] for agent_id in agent_ids}
    for row in rows if isinstance(rows, list) else []:
        agent_id = row.get("agentId") if isinstance(row, dict) else None
        if isinstance(agent_id, str) and agent_id in found:
            found[agent_id].append({name: given for name, given in row.items() if name != "agentId"})
    return {agent_id: given[0] for agent_id, given in found.items() if len(given) == 1 and is_valid(given[0])}


def is_valid(verdict_given: JsonObject) -> bool:
    """Return whether a verdict matches the schema of a single verdict."""
    try:
        return not JUDGE_ANSWER.problems(verdict_given)
    except ValueError:  # a number that JSON cannot represent
        return False


def shares_of(calls: tuple[ModelCall, ...], submissions: Sequence[Submission]) -> list[tuple[ModelCall, ...]]:
    """Divide the calls of a batch among its outputs by their sizes; the shares of each call add up exactly."""
    sizes = [size_of(one) for one in submissions]
    divided = [divide(call, sizes) for call in calls]
    return [
        tuple(attributed(shares[place], submission) for shares in divided)
        for place, submission in enumerate(submissions)
    ]


def attributed(call: ModelCall, submission: Submission) -> ModelCall:
    """Return a share as a ledger row of a submission's execution."""
    agent = submission.agent
    scope = replace(call.scope, agent=agent.agent_id, department=agent.department.slug)
    return replace(call, execution_id=submission.execution_id, scope=scope)


def divide(call: ModelCall, sizes: list[int]) -> list[ModelCall]:
    """Divide a call into shares proportional to sizes, which add up to it exactly."""
    usage = call.usage
    columns = [shared(tokens, sizes) for tokens in (usage.input, usage.output, usage.cache_read, usage.cache_write)]
    usages = [TokenUsage(*row) for row in zip(*columns, strict=True)]
    costs, saved_costs = shared_cost(call.cost_usd, sizes), shared_cost(call.saved_cost_usd, sizes)
    reasoning, saved = shared(call.reasoning_tokens, sizes), shared(call.saved_tokens, sizes)
    batch_id = f"batch_{uuid4().hex}"
    return [
        replace(
            call,
            call_id=f"call_{uuid4().hex}",
            batch_id=batch_id,
            usage=usages[place],
            cost_usd=costs[place],
            reasoning_tokens=reasoning[place],
            saved_tokens=saved[place],
            saved_cost_usd=saved_costs[place],
        )
        for place in range(len(sizes))
    ]


def shared_cost(cost: float | None, sizes: list[int]) -> list[float | None]:
    """Divide a cost into shares that add up to it; an unknown one stays unknown."""
    if cost is None:
        return [None] * len(sizes)
    scale = 10**COST_DECIMALS
    return [part / scale for part in shared(round(cost * scale), sizes)]


def shared(total: int, sizes: list[int]) -> list[int]:
    """Divide a whole number into whole shares proportional to sizes; the largest remainders get the rest."""
    weights = [size + 1 for size in sizes]  # an empty text still costs its share
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(sizes)), key=lambda place: -(total * weights[place] % whole))
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts

"""The prompts that models received for an execution, for people who write instructions or examine a result."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from app.database.connection import Database
from app.errors import AppError
from app.events.log.full_events import tree_events
from app.events.types import AgentRetry
from app.kit.json_values import JsonObject
from app.kit.schemas import ApiModel
from app.models.agent_execution import AgentExecution, ExecutionKind, RunOptions
from app.services.access.api_keys import Caller
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loader import DefinitionLoader
from app.services.llm.calls import RunPurpose
from app.services.prompts.agents import Brief, agent_system_prompt, brief_of, task_prompt
from app.services.prompts.fences import system_message, user_message
from app.services.prompts.heads import plan_prompt, review_prompt
from app.services.prompts.judge import JUDGE_SYSTEM_PROMPT, judge_prompt
from app.services.prompts.versions import PROMPTS_VERSION
from app.services.quality.review import judgement_of
from app.services.runs.queries.execution_shapes import ExecutionRead
from app.services.runs.queries.executions import ExecutionQueries
from app.services.runs.work.state import ExecutionState

OWN_PURPOSE = {
    ExecutionKind.AGENT: RunPurpose.WORK,
    ExecutionKind.DEPARTMENT: RunPurpose.REPORT,
    ExecutionKind.ORCHESTRATION: RunPurpose.ORCHESTRATE,
}


class ShownCall(ApiModel):
    """The last call of one purpose, and the number of calls with that purpose."""

    purpose: RunPurpose
    """The purpose of the calls."""
    calls: int
    """The number of calls with this purpose."""
    seqs: list[int]
    """The numbers of the events that carry the answers of these calls."""
    model: str | None
    """The model that the last call named; `null` if unknown."""
    source: Literal["stored", "rebuilt"]
    """`stored`: the messages as they were sent, except for what `omitted` names. `rebuilt`: made from today's
    templates and instructions, exact as long as neither has changed."""
    messages: list[JsonObject]
    """The messages of the last call."""
    omitted: JsonObject | None = None
    """The parts of the messages that were left out or shortened to fit into the model's context."""


class ShownPrompts(ApiModel):
    """The prompts that models received for an execution."""

    execution_id: str
    """The execution's id."""
    prompts_version: str | None
    """The version of the prompt templates that the run began with."""
    current_version: str
    """The version of the prompt templates in use now."""
    calls: list[ShownCall]
    """The last call of each purpose."""


@dataclass
class Account:
    """Collects the calls of an execution, event by event; `opening` holds the messages before its own turns."""

    execution: ExecutionRead
    agent: AgentDefinition | None
    head: AgentDefinition | None
    specialists: tuple[AgentDefinition, ...]
    opening: list[JsonObject]
    state: ExecutionState
    version: str | None = None
    found: dict[RunPurpose, ShownCall] = field(default_factory=dict[RunPurpose, ShownCall])

    def take(self, event: JsonObject) -> None:
        """Note the call that an event reports, with the state at that time."""
        if event["type"] == "agent-start":
            self.version = event.get("promptsVersion")
        if (
            "usage" in event and event["type"] != AgentRetry.type
        ):  # a retry's event does not say which calls it repeated
            purpose, source, messages = self._asked(event)
            if messages:
                before = self.found.get(purpose)
                seqs = [*(before.seqs if before else []), event["seq"]]
                self.found[purpose] = ShownCall(
                    purpose=purpose,
                    calls=len(seqs),
                    seqs=seqs,
                    model=event.get("model"),
                    source=source,
                    messages=messages,
                    omitted=event.get("omitted"),
                )
        self.state.apply(event)

    def _asked(self, event: JsonObject) -> tuple[RunPurpose, Literal["stored", "rebuilt"], list[JsonObject]]:
        by_type: dict[str, tuple[RunPurpose, Callable[[], list[JsonObject]]]] = {
            "quality-check": (RunPurpose.JUDGE, self._judge),
            "review-status": (RunPurpose.REVIEW, self._review),
        }
        if "plan" in event:
            return RunPurpose.PLAN, "rebuilt", self._plan()
        if event["type"] in by_type:
            purpose, rebuild = by_type[event["type"]]
            return purpose, "rebuilt", rebuild()
        messages = [*self.opening, *self.state.turns] if self.opening else []
        return OWN_PURPOSE[self.execution.kind], "stored", [dict(message) for message in messages]

    def _plan(self) -> list[JsonObject]:
        if self.agent is None:
            return []
        request = task_prompt(self.execution.prompt, self.execution.params)
        return [
            system_message(agent_system_prompt(self.agent)),
            user_message(plan_prompt(request, self.specialists)),
        ]

    @property
    def _brief(self) -> Brief:
        is_assignment = self.execution.parent_execution_id and self.execution.kind is ExecutionKind.AGENT
        return brief_of(self.execution.prompt) if is_assignment else Brief(self.execution.prompt)

    def _judge(self) -> list[JsonObject]:
        told = judge_prompt(
            self.execution.department or "",
            self._brief,
            self.state.answer or "",
            truncated=self.state.truncated,
        )
        return [system_message(JUDGE_SYSTEM_PROMPT), user_message(told)]

    def _review(self) -> list[JsonObject]:
        if self.agent is None or self.head is None:
            return []
        told = review_prompt(
            self.agent,
            self._brief,
            self.state.answer or "",
            self.state.retry_count + 1,
            judgement_of(self.agent, self.state.quality_score, self.state.check, truncated=self.state.truncated),
        )
        return [system_message(agent_system_prompt(self.head)), user_message(told)]


@dataclass(frozen=True)
class PromptQueries:
    """Reconstructs prompts from stored events and histories, and otherwise from the templates."""

    database: Database
    executions: ExecutionQueries
    loader: DefinitionLoader

    async def read(self, execution_id: str, caller: Caller) -> ShownPrompts:
        """Return the last call of each purpose that was made for an execution.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
        """
        document = await self.executions.find_visible(execution_id, caller)
        if not document.is_ours:
            return ShownPrompts(
                execution_id=execution_id, prompts_version=None, current_version=PROMPTS_VERSION, calls=[]
            )
        execution = await self.executions.get_execution(execution_id, caller)
        events = [event async for owner, event in tree_events(self.database, document.root_id) if owner == execution_id]
        account = await self._account(document, execution, events)
        for event in events:
            account.take(event)
        return ShownPrompts(
            execution_id=execution_id,
            prompts_version=account.version,
            current_version=PROMPTS_VERSION,
            calls=list(account.found.values()),
        )

    async def _account(self, document: AgentExecution, execution: ExecutionRead, events: list[JsonObject]) -> Account:
        limit = (document.options or RunOptions()).max_revisions
        final = ExecutionState(max_revisions=limit)
        for event in events:
            final.apply(event)
        agent = await self._find_agent(execution.agent)
        reviewer = (final.review or {}).get("reviewedBy") if final.review else None
        return Account(
            execution=execution,
            agent=agent,
            head=await self._find_agent(reviewer or execution.reviewed_by),
            specialists=await self._specialists(execution),
            opening=opening_of(execution.run_state, len(final.turns)),
            state=ExecutionState(max_revisions=limit),
        )

    async def _find_agent(self, agent_id: str | None) -> AgentDefinition | None:
        """Return the current definition of the agent, or `None` if it can no longer run."""
        if agent_id is None:
            return None
        try:
            return await self.loader.get_agent(agent_id)
        except AppError:
            return None

    async def _specialists(self, execution: ExecutionRead) -> tuple[AgentDefinition, ...]:
        if execution.kind is not ExecutionKind.DEPARTMENT or execution.department is None:
            return ()
        try:
            return (await self.loader.get_team(execution.department)).specialists
        except AppError:
            return ()


def opening_of(run_state: object, turns: int) -> list[JsonObject]:
    """Return the messages before an ended execution's own turns; a head's report does not see its plan's conversation.

    Returns nothing if another process than the one that ran it ended it: its models' instructions are not stored then.
    """
    messages = run_state.get("messages") if isinstance(run_state, dict) else None
    if not isinstance(messages, list) or len(messages) <= turns:
        return []
    opening: list[JsonObject] = messages[: len(messages) - turns]
    if opening[0].get("role") != "system":
        return []
    return [opening[0], opening[-1]] if any("plan" in message for message in opening) else opening

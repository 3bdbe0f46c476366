"""One run of one agent: the `agent-executions` collection, shared with Payload, and the run engine's own fields."""

import secrets
import string
import time
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.kit.described_enums import DescribedEnum
from app.kit.words import words_in
from app.models.base import PayloadDocument, Relation, Rows, WholeNumber, stored_name
from app.models.execution_indexes import EXECUTION_INDEXES

ID_ALPHABET = string.digits + string.ascii_lowercase


def new_execution_id() -> str:
    """Return a new execution id in the report's form: milliseconds, then nine random characters."""
    tail = "".join(secrets.choice(ID_ALPHABET) for _ in range(9))
    return f"exec_{time.time_ns() // 1_000_000}_{tail}"


class ExecutionStatus(DescribedEnum):
    """The status of an execution; the last three are terminal."""

    PENDING = "pending"
    """Accepted and stored; no process is working on it yet."""
    RUNNING = "running"
    """A process is working on it."""
    COMPLETED = "completed"
    """It ended with an output."""
    FAILED = "failed"
    """It ended with an error."""
    CANCELLED = "cancelled"
    """It was cancelled before its end."""

    @property
    def is_terminal(self) -> bool:
        """Whether the status can no longer change."""
        return self in TERMINAL_STATUSES


TERMINAL_STATUSES = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)


class ReviewStatus(DescribedEnum):
    """The reviewer's decision, if there is one."""

    PENDING = "pending"
    """No one has reviewed it."""
    APPROVED = "approved"
    """The reviewer accepted the output."""
    REJECTED = "rejected"
    """The reviewer rejected the output."""
    REVISION_NEEDED = "revision-needed"
    """The reviewer sent the output back to be revised."""


class ExecutionKind(DescribedEnum):
    """The kind of work: one agent, a department, or several departments."""

    AGENT = "agent"
    """One agent, alone or as a specialist of a department."""
    DEPARTMENT = "department"
    """A department: its head plans, reviews and reports."""
    ORCHESTRATION = "orchestration"
    """Several departments, in the order of their priority."""


class StopReason(DescribedEnum):
    """Why an execution stopped, in more detail than its status."""

    COMPLETED = "completed"
    """It gave its answer."""
    MAX_STEPS = "max-steps"
    """It answered because it had made as many model calls as `maxAgentSteps` allows."""
    CANCELLED = "cancelled"
    """It was cancelled."""
    BUDGET = "budget"
    """Its budget was exhausted."""
    REJECTED = "rejected"
    """The reviewer rejected its output."""
    ERROR = "error"
    """It failed."""


class RunOptions(BaseModel):
    """The client's options for a run; children inherit all but the `departments` of an orchestration."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    model: str | None = None
    max_revisions: int = 1
    deltas: bool = False
    judge: bool = True
    departments: list[str] | None = None
    tags: list[str] = Field(default_factory=list)
    cache: bool = True
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    approvals: str | None = None
    """`all`: every tool call waits for a person's approval."""
    output_schema: dict[str, Any] | None = None
    """The JSON Schema of the root's data, instead of the agent's."""


class Lease(BaseModel):
    """The process that runs a tree, and the time at which its lease expires, by the database's clock."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    owner: str
    until: datetime


class StartedBy(BaseModel):
    """The caller that started a run: `type` is `api-key`, `token` or `anonymous`; `api_key` is the id of the key."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    type: str
    name: str
    api_key: str | None = None


class Idempotency(BaseModel):
    """The request that created an execution: hashes of its key in the caller's scope, and of its content."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    key: str
    fingerprint: str


class RevisionRequest(BaseModel):
    """A person's request to revise an execution of a finished tree; `name` is the person's."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    execution_id: str
    notes: str
    name: str
    person_review: dict[str, Any]

    @property
    def review_changes(self) -> dict[str, Any]:
        """The changes to the execution that is sent back, by their MongoDB names."""
        return {
            "reviewStatus": ReviewStatus.REVISION_NEEDED.value,
            "reviewNotes": self.notes,
            "reviewedBy": None,
            "personReview": self.person_review,
        }


class AgentExecution(PayloadDocument):
    """The audit record of one execution.

    Payload's fields come first and hold only values that Payload can save again. The run engine's fields follow `__v`:
    `lastSeq` is the number of the execution's last event, `pagesFrom` the number of the first event that is stored on
    a page because the document had no room, and `fence` the token that guards every write of the run. Roots also have
    `lease`, `deadline` (by the database's clock) and `priority` (in the queue). `uncounted` and `outbox` mark the end
    of an execution for its consumers. `qualityScore` is 0 to 100, `executionTime` is in milliseconds.
    `promptWords` and `listedCostUsd` serve the filters of lists.
    """

    execution_id: Annotated[str, Field(min_length=1)]
    agent: Relation | None = None
    department: Relation | None = None
    project: Relation | None = None
    episode: Relation | None = None
    conversation_id: str | None = None
    prompt: str = ""
    params: Any = None
    output: Any = None
    run_state: Any = None
    events: Annotated[list[dict[str, Any]], Rows] = Field(default_factory=list)
    status: ExecutionStatus = ExecutionStatus.PENDING
    started_at: datetime | None = None
    completed_at: datetime | None = None
    execution_time: float | None = None
    token_usage: Any = None
    quality_score: float | None = None
    review_status: ReviewStatus = ReviewStatus.PENDING
    reviewed_by: Relation | None = None
    review_notes: str | None = None
    error: Any = None
    retry_count: WholeNumber = 0
    payload_version: WholeNumber = Field(default=0, alias="__v")

    kind: ExecutionKind = ExecutionKind.AGENT
    root_execution_id: str | None = None
    parent_execution_id: str | None = None
    options: RunOptions | None = None
    cost_usd: float | None = None
    stop_reason: StopReason | None = None
    last_seq: WholeNumber = 0
    pages_from: WholeNumber | None = None
    fence: WholeNumber = 0
    takeovers: WholeNumber = 0
    waiting_for: list[str] | None = None
    """The pending approvals that it waits for; on a root, those of its tree. Missing without any."""
    waiting_since: datetime | None = None
    """On a root that nothing but a decision can continue: when its owner released it."""
    resumed: bool | None = None
    """Whether the root's present owner took it after such a wait."""
    retries: WholeNumber = 0
    """The number of model calls that were retried because they had failed."""
    lease: Lease | None = None
    uncounted: Any = None
    """The outbox mark of the statistics."""
    outbox: Any = None
    """The outbox marks of the other consumers."""
    priority: WholeNumber | None = None
    deadline: datetime | None = None
    cancel_requested: bool | None = None
    retry_of: str | None = None
    from_checkpoint: Annotated[bool | None, Field(alias="goesOn")] = None
    """On a retry: whether it starts from the checkpoint of the run that it repeats."""
    previous_execution_id: str | None = None
    idempotency: Idempotency | None = None
    started_by: StartedBy | None = None
    reopening: RevisionRequest | None = None
    """On a root: the revision request that the tree's owner has not turned into events yet."""
    trace: dict[str, str] | None = None
    """On a root: `traceparent` and `tracestate` of the request that started it, if that process records traces."""
    truncated: bool | None = None
    """Whether the output stopped at the model's output limit."""
    quality_gate: Any = None
    quality_threshold: float | None = None
    """The agent's threshold (0 to 100) when the execution ended."""
    provider_message: str | None = None
    """The provider's message about the call that failed the execution, without secrets; only admins see it."""
    person_review: Any = None
    """The last review by a person, with the judge's score at that time; `superseded` once the work was done again."""
    prompt_words: list[str] | None = None
    """The first different words of the prompt, normalized; unset for other programs' executions."""
    listed_cost_usd: float | None = None
    """The cost shown in lists, set when the execution ends: the tree's for a root, otherwise that of its own calls."""
    archived_at: datetime | None = None
    """When its tree was archived; its events, prompts and outputs have been in the archive since then."""
    archive: Any = None
    """The archive of its tree: `month`, and the hashes by which its files are checked."""
    untrimmed: bool | None = None
    """On an archived root: whether the database still has something that the archive holds."""
    legal_hold: bool | None = None
    """On a root: whether its tree must be kept as it is. Missing if not."""

    class Settings:
        """Collection and indexes: Payload's, their descending counterparts, and the engine's."""

        name = "agent-executions"
        keep_nulls = False
        indexes = EXECUTION_INDEXES

    @classmethod
    def new_root(
        cls,
        *,
        agent: Relation,
        department: Relation,
        kind: ExecutionKind,
        prompt: str,
        **fields: Any,  # noqa: ANN401 - any field
    ) -> Self:
        """Build the root of a new tree, without storing it; `fields` are the request's."""
        execution_id = new_execution_id()
        return cls(
            execution_id=execution_id,
            root_execution_id=execution_id,
            agent=agent,
            department=department,
            kind=kind,
            prompt=prompt,
            prompt_words=words_in(prompt),
            **fields,
        )

    @classmethod
    def new_child(
        cls,
        root: "AgentExecution",
        parent_id: str,
        *,
        agent: Relation | None,
        department: Relation | None,
        kind: ExecutionKind,
        prompt: str,
        **fields: Any,  # noqa: ANN401 - any field
    ) -> Self:
        """Build an execution below `parent_id`, with its root's project and conversation, without storing it."""
        return cls(
            execution_id=new_execution_id(),
            root_execution_id=root.execution_id,
            parent_execution_id=parent_id,
            agent=agent,
            department=department,
            project=root.project,
            episode=root.episode,
            conversation_id=root.conversation_id,
            started_by=root.started_by,
            prompt=prompt,
            prompt_words=words_in(prompt),
            kind=kind,
            **fields,
        )

    def note_changes(self, changes: Mapping[str, Any], last_seq: int) -> None:
        """Apply changes that are being stored, by their MongoDB names, together with the event of this number."""
        for key, value in changes.items():
            if "." in key:  # a part of a field: an outbox mark, which no run reads
                continue
            kind = CHOICES.get(key)
            setattr(self, FIELDS_BY_KEY[key], kind(value) if kind and value is not None else value)
        self.last_seq = last_seq

    @property
    def superseded_review(self) -> dict[str, Any]:
        """The change that marks a person's review as superseded, if there is one to mark."""
        stored = self.person_review
        if not isinstance(stored, dict) or stored.get("superseded"):
            return {}
        return {"personReview": {**stored, "superseded": True}}

    @property
    def root_id(self) -> str:
        """The id of the tree's root; an execution that another program created is its own root."""
        return self.root_execution_id or self.execution_id

    @property
    def is_ours(self) -> bool:
        """Whether this service created it; executions of other programs are shown and never run."""
        return self.root_execution_id is not None


FIELDS_BY_KEY = {stored_name(name): name for name in AgentExecution.model_fields} | {"__v": "payload_version"}
"""The field behind each key of the stored document."""
CHOICES: dict[str, type[StrEnum]] = {
    "status": ExecutionStatus,
    "reviewStatus": ReviewStatus,
    "stopReason": StopReason,
}
"""The keys that hold a value of an enum."""

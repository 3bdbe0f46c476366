"""The shapes in which executions are shown; those of other programs are shown unchanged."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.database.etags import tag_of
from app.events.archive.form import data_name
from app.events.archive.reader import TreeArchive
from app.kit.check_thread import in_check_thread
from app.kit.json_limits import count_values
from app.kit.json_values import JsonObject, clean_json
from app.kit.schemas import ApiModel, Timestamp
from app.models.agent_execution import (
    AgentExecution,
    ExecutionKind,
    ExecutionStatus,
    ReviewStatus,
    StopReason,
)
from app.models.base import Relation
from app.services.quality.gates import meets_threshold
from app.services.runs.queries.tree_totals import TreeTotal

MAX_TREE_DEPTH = 32
"""The levels of a run's tree; deeper executions are not shown."""
MAX_INLINE_VALUES = 5_000
"""The number of values up to which a response is built on the event loop, in about 5 ms."""


class ExecutionLinks(ApiModel):
    """Links to the resources of an execution."""

    self: str
    """The path of the execution."""
    events: str
    """The path of its stored events."""
    stream: str
    """The path of its event stream (Server-Sent Events)."""
    websocket: str = "/api/agent-events"
    """The path of the event socket, to which the execution can be subscribed."""

    @classmethod
    def of(cls, execution_id: str) -> "ExecutionLinks":
        """Return the links of an execution."""
        base = f"/api/v1/executions/{execution_id}"
        return cls(self=base, events=f"{base}/events", stream=f"{base}/events/stream")


class StartedByRead(ApiModel):
    """The caller that started a run."""

    type: str
    """How it authenticated: `api-key`, `token`, or `anonymous`."""
    name: str
    """The name of the key, or the subject of the token."""


class ReviewerRead(ApiModel):
    """The person who reviewed an execution."""

    type: str | None
    """How the person authenticated: `api-key`, `token`, or `anonymous`; `null` for reviews of earlier releases."""
    name: str
    """The name of the key, or the subject of the token."""


class PersonReviewRead(ApiModel):
    """The latest review of an execution by a person."""

    status: ReviewStatus
    """The decision."""
    notes: str
    """The notes; empty without any."""
    reviewer: ReviewerRead
    """The person who decided."""
    at: Timestamp
    """When the person decided."""
    superseded: bool
    """Whether the work was redone after the decision, so that the review no longer applies to the current output."""


class QualityGateRead(ApiModel):
    """The quality gate of an execution."""

    name: str
    """The name of the gate."""
    threshold: float
    """The minimum score to pass the gate, 0 to 1."""
    passed: bool
    """Whether the execution passed it."""
    score: float | None
    """The score, 0 to 1; `null` if unscored."""


class WaitingForRead(ApiModel):
    """The decisions that an execution waits for."""

    approvals: list[str]
    """The ids of the pending approvals; for a root, those of its tree."""


class ArchiveRead(ApiModel):
    """The archive that has the events, prompts and outputs of an execution's tree."""

    file: str
    """The compressed file, relative to `DATA_DIR/archive`."""
    sha256: str
    """The SHA-256 of the compressed file."""
    readable: bool
    """Whether this server can read it. If not, `params`, `output` and `runState` are `null`, the prompt is shortened,
    and the events are 410."""
    problem: str | None
    """Why it cannot be read; `null` if it can."""


class ExecutionSummary(ApiModel):
    """The fields of an execution that every response has; `agent` and `department` are natural keys."""

    execution_id: str
    """The execution's id."""
    root_execution_id: str
    """The id of the root of its run tree. A root names itself."""
    parent_execution_id: str | None
    """The id of the execution that started it; `null` for a root."""
    kind: ExecutionKind
    """The kind of execution."""
    status: ExecutionStatus
    """The status of the execution."""
    agent: str | None
    """The id of its agent; `null` if the agent no longer exists."""
    department: str | None
    """The slug of its department; `null` if it has no department, or the department no longer exists."""
    project: str | None
    """The id of the CMS project that the run belongs to."""
    episode: str | None
    """The id of the CMS episode that the run belongs to, if any."""
    conversation_id: str | None
    """The conversation that the run belongs to, if any."""
    retry_of: str | None
    """The id of the execution that this one retries."""
    previous_execution_id: str | None
    """The id of the execution whose conversation this one continues."""
    prompt: str
    """The task. In lists, that of an archived execution is cut to its first 500 characters."""
    started_at: Timestamp | None
    """When the first process began to work on it; `null` until then."""
    completed_at: Timestamp | None
    """When it reached a terminal status; `null` until then."""
    execution_time: float | None
    """The time from start to end in milliseconds; `null` until the end."""
    token_usage: Any
    """The tokens of its model calls, `{"input", "output", "total", "cacheRead", "cacheWrite"}`; `null` until the
    end."""
    cost_usd: float | None
    """The cost of its model calls in US dollars; `null` if a price is unknown."""
    total: TreeTotal | None = None
    """The sums over the ended executions of the tree, for a root; `null` for other executions."""
    tags: list[str]
    """The labels of the run."""
    started_by: StartedByRead | None
    """The caller that started the run."""
    quality_score: float | None
    """0 to 100: the `score` of its last `quality-check` event, which is 0 to 1, times 100. `null` if unscored."""
    meets_threshold: bool | None
    """Whether `qualityScore` reaches the `qualityThreshold` that the agent had; `null` if unscored."""
    quality_gate: QualityGateRead | None
    """The gate that its output was checked against; `null` if it was not judged."""
    review_status: ReviewStatus
    """The outcome of the latest review."""
    reviewed_by: str | None
    """The id of the agent that made the latest review; `null` if a person made it."""
    review_notes: str | None
    """The notes of the latest review."""
    person_review: PersonReviewRead | None
    """The latest review by a person; `null` without one."""
    stop_reason: StopReason | None
    """The reason why it stopped; `null` until the end."""
    truncated: bool
    """Whether the output stopped at the model's output limit (its `finish_reason` was `length`) and is
    incomplete."""
    error: Any
    """The error of a failed execution, `{"code", "message"}`; `output-invalid` has `details`, too: `[{"path",
    "message"}]`, relative to the data. If the model provider refused the call, admins also see `providerMessage`, the
    provider's message without secrets."""
    retry_count: int
    """The number of revisions."""
    retries: int
    """The number of model calls that were retried because they had failed, including those of its judge."""
    waiting_for: WaitingForRead | None
    """The decisions of people that it is waiting for; `null` without any. It stays `running` until they are
    made."""
    last_seq: int
    """The number of its last event; for a root, of the last event in its tree."""
    archived_at: Timestamp | None
    """When the run was archived; `null` if it is not."""
    archive: ArchiveRead | None = None
    """The archive of an archived run; `null` if it is not archived."""
    legal_hold: bool
    """For a root: whether the run is under a legal hold, which keeps it from being archived or deleted."""
    created_at: Timestamp
    """When the execution was accepted."""
    updated_at: Timestamp
    """When its document was last changed."""
    links: ExecutionLinks
    """Links to related resources."""


class ExecutionRead(ExecutionSummary):
    """A full execution without its events, which have their own endpoint."""

    params: Any
    """The parameters of the run, as data for its agents."""
    output: Any
    """The result, `{"text", "data", …}`. For a department or an orchestration, it also has `report`, and `data` if the
    run has an output schema. `null` until the end."""
    run_state: Any
    """The message history (`messages`) of an ended execution, which another can continue. `null` until the end.

    If the execution was cancelled, or failed and was not continued, the agent's instructions are left out. A history
    that is too large for one document is left out, which `omitted` says; read the events instead."""


class TreeNode(ApiModel):
    """An execution in its run tree."""

    execution_id: str
    """The execution's id."""
    kind: ExecutionKind
    """The kind of execution."""
    agent: str | None
    """The id of its agent; `null` if the agent no longer exists."""
    department: str | None
    """The slug of its department; `null` if it has no department, or the department no longer exists."""
    status: ExecutionStatus
    """The status of the execution."""
    quality_score: float | None
    """0 to 100; `null` if unscored."""
    review_status: ReviewStatus
    """The outcome of the latest review."""
    token_usage: Any
    """The tokens of its own model calls."""
    cost_usd: float | None
    """The cost of its own model calls in US dollars; `null` if a price is unknown."""
    waiting_for: WaitingForRead | None
    """The decisions of people that it waits for; `null` if it waits for none."""
    children: list["TreeNode"]
    """The executions that it started."""


@dataclass(frozen=True)
class Names:
    """The natural keys behind relations."""

    agents: dict[Relation, str]
    departments: dict[Relation, str]


NO_NAMES = Names({}, {})


def summary_fields(execution: AgentExecution, names: Names, *, is_admin: bool = False) -> JsonObject:
    """Return the fields of every response, from a document."""
    return {
        **dict(execution),
        "root_execution_id": execution.root_id,
        "agent": names.agents.get(execution.agent) if execution.agent else None,
        "department": names.departments.get(execution.department) if execution.department else None,
        "project": str(execution.project) if execution.project else None,
        "episode": str(execution.episode) if execution.episode else None,
        "token_usage": clean_json(execution.token_usage),
        "meets_threshold": meets_threshold(execution.quality_score, execution.quality_threshold),
        "quality_gate": gate_of(execution),
        "reviewed_by": names.agents.get(execution.reviewed_by) if execution.reviewed_by else None,
        "person_review": person_review_of(execution),
        "tags": execution.options.tags if execution.options else [],
        "truncated": bool(execution.truncated),
        "error": error_of(execution, is_admin=is_admin),
        "waiting_for": WaitingForRead(approvals=execution.waiting_for) if execution.waiting_for else None,
        "legal_hold": execution.legal_hold is True,
        "archive": None,
        "links": ExecutionLinks.of(execution.execution_id),
    }


def execution_etag(execution: "AgentExecution | ExecutionRead") -> str:
    """Return the entity tag of an execution, which changes with each of its events, reviews and holds."""
    return tag_of(
        {
            "executionId": execution.execution_id,
            "updatedAt": execution.updated_at,
            "legalHold": execution.legal_hold is True,
        }
    )


def archive_fields(execution: AgentExecution) -> JsonObject:
    """Return the stored fields by which the archive of an execution is found."""
    return {"archivedAt": execution.archived_at, "archive": execution.archive}


def archive_read(archive: TreeArchive, problem: str | None) -> ArchiveRead:
    """Describe an archive, and the problem that prevents reading it, if any."""
    file = f"{archive.month}/{data_name(archive.root_id)}"
    return ArchiveRead(file=file, sha256=archive.sha256, readable=problem is None, problem=problem)


def gate_of(execution: AgentExecution) -> QualityGateRead | None:
    """Return the gate of an execution, if it was measured against one."""
    try:
        return QualityGateRead.model_validate(execution.quality_gate)
    except ValidationError:
        return None


def person_review_of(execution: AgentExecution) -> PersonReviewRead | None:
    """Return the latest review by a person; reviews of earlier releases lack the notes and the kind of credentials."""
    stored = execution.person_review
    if not isinstance(stored, dict):
        return None
    try:
        reviewer = {"type": stored.get("type"), "name": stored.get("name")}
        added = {"notes": stored.get("notes") or "", "superseded": bool(stored.get("superseded")), "reviewer": reviewer}
        return PersonReviewRead.model_validate({**stored, **added})
    except ValidationError:
        return None


def error_of(execution: AgentExecution, *, is_admin: bool) -> Any:  # noqa: ANN401 - other programs store any JSON value
    """Return the error of an execution; admins also see the model provider's message, if there is one."""
    error = clean_json(execution.error)
    if not is_admin or not execution.provider_message or not isinstance(error, dict):
        return error
    return {**error, "providerMessage": execution.provider_message}


async def read_of(execution: AgentExecution, names: Names, *, is_admin: bool = False) -> ExecutionRead:
    """Build a full execution from its document, in a thread if it is large."""
    large_fields = [execution.params, execution.output, execution.run_state]
    if count_values(large_fields, MAX_INLINE_VALUES) < MAX_INLINE_VALUES:
        return full_shape(execution, names, is_admin=is_admin)
    return await in_check_thread(full_shape, execution, names, is_admin=is_admin)


def full_shape(execution: AgentExecution, names: Names, *, is_admin: bool) -> ExecutionRead:
    """Build a full execution from its document."""
    changed = {
        "params": clean_json(execution.params),
        "output": clean_json(execution.output),
        "run_state": clean_json(execution.run_state),
    }
    return ExecutionRead.model_validate({**summary_fields(execution, names, is_admin=is_admin), **changed})


def by_parent(members: list[AgentExecution]) -> dict[str, list[AgentExecution]]:
    """Group executions by the one that started them."""
    found: defaultdict[str, list[AgentExecution]] = defaultdict(list)
    for one in members:
        if one.parent_execution_id is not None:
            found[one.parent_execution_id].append(one)
    return found


def tree_node(
    top: AgentExecution, children: dict[str, list[AgentExecution]], names: Names, shown: set[str], depth: int = 1
) -> TreeNode:
    """Build the tree of an execution; each execution appears once, even if the stored relations form a cycle."""
    nodes: list[TreeNode] = []
    for one in children.get(top.execution_id, ()) if depth < MAX_TREE_DEPTH else ():
        if one.execution_id not in shown:
            shown.add(one.execution_id)
            nodes.append(tree_node(one, children, names, shown, depth + 1))
    return TreeNode.model_validate({**summary_fields(top, names), "children": nodes})

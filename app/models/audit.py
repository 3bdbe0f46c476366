"""The audit log: one chain of entries, and the marks from which they are made, in collections of the service's own."""

from datetime import datetime
from typing import Any

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from app.kit.described_enums import DescribedEnum
from app.models.base import optional_index, own_index, stored_name


class AuditAction(DescribedEnum):
    """The kinds of changes; the part before the dot names the kind of thing that was changed."""

    DEPARTMENT_CREATE = "department.create"
    """A department was created."""
    DEPARTMENT_UPDATE = "department.update"
    """A department was changed; `detail.changed` names the fields."""
    DEPARTMENT_DELETE = "department.delete"
    """A department was deleted."""
    AGENT_CREATE = "agent.create"
    """An agent was created."""
    AGENT_UPDATE = "agent.update"
    """An agent was changed; `detail.changed` names the fields."""
    AGENT_DELETE = "agent.delete"
    """An agent was deleted."""
    TOOL_CREATE = "custom-tool.create"
    """A custom tool was created."""
    TOOL_UPDATE = "custom-tool.update"
    """A custom tool was changed; `detail.changed` names the fields."""
    TOOL_DELETE = "custom-tool.delete"
    """A custom tool was deleted."""
    WEIGHTS_UPDATE = "weights.update"
    """The quality weights of a department were set."""
    WEIGHTS_RESET = "weights.reset"
    """The quality weights of a department were removed."""
    API_KEY_CREATE = "api-key.create"
    """An API key was created."""
    API_KEY_REVOKE = "api-key.revoke"
    """An API key was revoked."""
    BUDGET_SET = "budget.set"
    """The budget of a scope was set."""
    BUDGET_DELETE = "budget.delete"
    """The budget of a scope was deleted."""
    EXECUTION_END = "execution.end"
    """A run tree ended; `detail.eventsHash` is the SHA-256 over its stored events."""
    EXECUTION_REVIEW = "execution.review"
    """A person reviewed an execution; `detail.eventsHash` is the SHA-256 over its tree's events with the review."""
    EXECUTION_CANCEL = "execution.cancel"
    """A run was cancelled."""
    EXECUTION_DELETE = "execution.delete"
    """A run was deleted with all its events."""
    EXECUTION_ARCHIVE = "execution.archive"
    """A run was moved to the archive."""
    EXECUTION_HOLD = "execution.hold"
    """A run was put under a legal hold, or released from it."""
    APPROVAL_DECIDE = "approval.decide"
    """A person approved or declined a tool call."""


class AuditMark(Document):
    """A change that has no entry yet, stored in the transaction of the change itself.

    The consumer of the audit log turns marks into entries and then removes them. `tree` is
    `{"rootExecutionId", "lastSeq", "eventsHash"}` if the entry records the hash of a tree's events up to a number; once
    it was computed, `isHashed` is true. If the events are irregular, there is a `problem` in place of the hash.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    at: datetime
    actor: dict[str, str]
    action: str
    target: dict[str, str]
    detail: dict[str, Any] = Field(default_factory=dict[str, Any])
    tree: dict[str, Any] | None = None

    class Settings:
        """Collection and indexes."""

        name = "agent-audit-marks"
        keep_nulls = False
        indexes = (own_index("at", "_id"), optional_index("tree.rootExecutionId"))


class AuditEntry(Document):
    """An entry of the chain. Its `_id` is its number, so that no number is given twice.

    `mark` is the id of the mark that it was made from, so that no mark makes two entries.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    id: int = 0  # pyright: ignore[reportIncompatibleVariableOverride] - the number in the chain
    at: datetime
    actor: dict[str, str]
    action: str
    target: dict[str, str]
    detail: dict[str, Any] = Field(default_factory=dict[str, Any])
    hash: str
    previous_hash: str
    mark: Any = None

    class Settings:
        """Collection and indexes."""

        name = "agent-audit"
        keep_nulls = False
        indexes = (
            IndexModel([("mark", ASCENDING)], name="mark_1", unique=True),
            own_index("actor.name", "_id"),
            own_index("action", "_id"),
            own_index("target.kind", "target.key", "_id"),
            own_index("at", "_id"),
            optional_index("detail.rootExecutionId", "_id"),
        )

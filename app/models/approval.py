"""An approval: a tool call that waits for a person's decision, in the service's own `agent-approvals` collection."""

import secrets
import string
import time
from datetime import datetime
from typing import Any

from beanie import Document
from beanie.odm.utils.dump import get_dict
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from app.kit.described_enums import DescribedEnum
from app.models.base import Relation, own_index, stored_name

ID_ALPHABET = string.digits + string.ascii_lowercase


def new_approval_id() -> str:
    """Return a new approval id: milliseconds, then nine random characters, like an execution's."""
    tail = "".join(secrets.choice(ID_ALPHABET) for _ in range(9))
    return f"appr_{time.time_ns() // 1_000_000}_{tail}"


class ApprovalStatus(DescribedEnum):
    """The status of an approval; all but the first are final."""

    PENDING = "pending"
    """No one has decided; the call waits."""
    APPROVED = "approved"
    """A person approved the call, with its input or an edited one."""
    DECLINED = "declined"
    """A person declined the call; the model receives an error."""
    EXPIRED = "expired"
    """No one decided in time; the model receives an error."""
    CANCELLED = "cancelled"
    """The run ended before a decision."""


class Approval(Document):
    """A tool call that is not made before a person has decided.

    The transaction that inserts it also stores its `approval-requested` event. Every later change is one transition
    from `pending`, guarded by it. `agent` and `department` are natural keys; `inputSchema` is the tool's schema when
    the approval was requested; `decidedBy` is `{"type", "name"}`.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    approval_id: str
    status: ApprovalStatus = ApprovalStatus.PENDING
    execution_id: str
    root_execution_id: str
    agent: str
    department: str
    project: Relation | None = None
    tool_name: str
    tool_version: str | None = None
    tool_digest: str = ""
    """A digest of the tool as the person saw it: a call of a tool that has changed since needs another approval."""
    tool_call_id: str
    input: Any = None
    input_digest: str
    """The SHA-256 of the canonical JSON of `input`, in lower-case hexadecimal digits."""
    input_schema: dict[str, Any] = Field(default_factory=dict[str, Any])
    edited_input: Any = None
    """The input with which the call was approved, if the person edited it."""
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None = None
    decided_by: dict[str, Any] | None = None
    message: str | None = None

    def as_stored(self) -> dict[str, Any]:
        """Return the document in stored form, without unset keys."""
        return get_dict(self, to_db=True, keep_nulls=False)

    class Settings:
        """Collection and indexes."""

        name = "agent-approvals"
        keep_nulls = False
        indexes = (
            IndexModel([("approvalId", ASCENDING)], name="approvalId_1", unique=True),
            own_index("rootExecutionId"),
            own_index("executionId"),
            own_index("requestedAt", "_id"),
            own_index("status", "requestedAt"),
            own_index("project", "requestedAt"),
            IndexModel(
                [("expiresAt", ASCENDING)],
                name="pending_expiresAt_1",
                partialFilterExpression={"status": ApprovalStatus.PENDING.value},
            ),
        )

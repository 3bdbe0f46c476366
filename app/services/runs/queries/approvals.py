"""Queries of approvals, in the shape of the API."""

from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from pydantic import ValidationError

from app.database.collections import Collection, collection_of
from app.database.connection import Database
from app.kit.json_values import JsonObject, clean_json
from app.kit.paging import PageRequest, read_page
from app.kit.schemas import ApiModel, Page, Timestamp
from app.models.approval import Approval, ApprovalStatus
from app.services.access.api_keys import Caller
from app.services.catalog.loader import parsed
from app.services.runs.approvals.errors import ApprovalNotFound
from app.services.runs.queries.execution_shapes import StartedByRead


class ApprovalRead(ApiModel):
    """A tool call that is or was waiting for a person's decision."""

    id: str
    """The approval's id."""
    status: ApprovalStatus
    """The status of the approval."""
    execution_id: str
    """The execution whose agent requested the call."""
    root_execution_id: str
    """The root of its run tree."""
    agent: str
    """The id of the agent."""
    department: str
    """The slug of the agent's department."""
    project: str | None
    """The id of the CMS project that the run belongs to."""
    tool_name: str
    """The tool to call."""
    tool_version: str | None
    """The version of the tool when the approval was requested; `null` for a tool without one."""
    tool_call_id: str
    """The call's id in the events of the execution."""
    input: dict[str, Any]
    """The input that the model wrote."""
    input_digest: str
    """The SHA-256 of the canonical JSON (RFC 8785) of `input`, in lower-case hexadecimal digits. A decision repeats
    it."""
    input_schema: dict[str, Any]
    """The JSON Schema of the tool's input, which an edited input must match."""
    edited_input: dict[str, Any] | None
    """The input with which the call was approved, if the person edited it."""
    requested_at: Timestamp
    """When the approval was requested."""
    expires_at: Timestamp
    """When the approval expires without a decision."""
    decided_at: Timestamp | None
    """When it was decided, expired or was cancelled; `null` until then."""
    decided_by: StartedByRead | None
    """The person who decided; `null` if no one did."""
    message: str | None
    """The person's message. If the call was declined, the model received it."""

    @classmethod
    def of(cls, approval: Approval) -> "ApprovalRead":
        """Convert a document."""
        changed = {
            "id": approval.approval_id,
            "project": str(approval.project) if approval.project else None,
            "input": clean_json(approval.input) or {},
            "input_schema": clean_json(approval.input_schema),
            "edited_input": clean_json(approval.edited_input),
            "decided_by": decider_of(approval),
        }
        return cls.model_validate({**dict(approval), **changed})


def decider_of(approval: Approval) -> StartedByRead | None:
    """Return the person who decided, if there is one."""
    try:
        return StartedByRead.model_validate(approval.decided_by)
    except ValidationError:
        return None


@dataclass(frozen=True)
class ApprovalFilter:
    """The filter of a list of approvals."""

    status: ApprovalStatus | None = None
    project: str | None = None
    agent: str | None = None
    department: str | None = None
    tool_name: str | None = None
    execution_id: str | None = None
    root_execution_id: str | None = None

    def selector(self, caller: Caller) -> JsonObject:
        """Return the condition for the approvals that a caller may see."""
        equal = {
            "status": self.status,
            "agent": self.agent,
            "department": self.department,
            "toolName": self.tool_name,
            "executionId": self.execution_id,
            "rootExecutionId": self.root_execution_id,
        }
        parts: list[JsonObject] = [{name: str(value)} for name, value in equal.items() if value is not None]
        if self.project is not None:
            parts.append({"project": ObjectId(self.project)})
        if caller.projects is not None:
            allowed = [ObjectId(one) for one in caller.projects if ObjectId.is_valid(one)]
            parts.append({"project": {"$in": allowed}})
        return {"$and": parts} if parts else {}


@dataclass(frozen=True)
class ApprovalQueries:
    """Reads the approvals that a caller may see."""

    database: Database

    async def get_approval(self, approval_id: str, caller: Caller) -> Approval:
        """Return one approval.

        Raises:
            ApprovalNotFound: there is no such approval, or the caller may not see it.
        """
        raw = await self._approvals.find_one({"approvalId": approval_id})
        approval = parsed(Approval, raw) if raw else None
        if approval is None or not caller.may_see(str(approval.project) if approval.project else None):
            raise ApprovalNotFound(approval_id)
        return approval

    async def list_approvals(self, wanted: ApprovalFilter, page: PageRequest, caller: Caller) -> Page:
        """Return the approvals that match a filter, latest first by default."""
        found = await read_page(self._approvals, wanted.selector(caller), page)
        items = [ApprovalRead.of(one) for raw in found.raws if (one := parsed(Approval, raw))]
        return Page(items, found.total, found.next_cursor)

    @property
    def _approvals(self) -> Collection:
        return collection_of(self.database, Approval)

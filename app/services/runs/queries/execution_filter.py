"""The filters of a list of executions, as conditions of MongoDB; each has an index."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId

from app.kit.described_enums import DescribedEnum
from app.kit.json_values import JsonObject
from app.kit.words import words_in
from app.models.agent_execution import ExecutionKind, ExecutionStatus, ReviewStatus
from app.models.catalog.agent import Agent
from app.models.catalog.department import Department

MAX_SEARCH_WORDS = 8
NOTHING: JsonObject = {"promptWords": {"$in": []}}
"""Matches no execution."""

FindId = Callable[[type[Agent | Department], JsonObject], Awaitable[ObjectId]]
"""Returns the id of the document with a natural key; for an unknown key one that no document has."""


class Awaiting(DescribedEnum):
    """The decision of a person that a run waits for."""

    APPROVAL = "approval"
    """A run in which a tool call waits for an approval."""
    REVIEW = "review"
    """A completed run, not archived, that no person has approved or rejected, or that was revised after a review."""


AWAITING: dict[Awaiting, JsonObject] = {
    Awaiting.APPROVAL: {"waitingFor": {"$exists": True}, "parentExecutionId": None},
    Awaiting.REVIEW: {
        "reviewStatus": {"$in": [ReviewStatus.PENDING.value, ReviewStatus.REVISION_NEEDED.value]},
        "status": ExecutionStatus.COMPLETED.value,
        "parentExecutionId": None,
        "archivedAt": None,  # an archived run can no longer be reviewed
        "rootExecutionId": {"$gt": ""},  # only set by this service: executions of other programs cannot be reviewed
    },
}
"""The runs that wait for each kind of decision: roots of this service."""


@dataclass(frozen=True)
class ExecutionFilter:
    """The filter of a list of executions."""

    q: str | None = None
    project: str | None = None
    episode: str | None = None
    agent: str | None = None
    department: str | None = None
    status: ExecutionStatus | None = None
    review_status: ReviewStatus | None = None
    kind: ExecutionKind | None = None
    is_root: bool | None = None
    awaiting: Awaiting | None = None
    api_key: str | None = None
    root_execution_id: str | None = None
    conversation_id: str | None = None
    legal_hold: bool | None = None
    min_cost_usd: float | None = None
    started_from: datetime | None = None
    started_to: datetime | None = None

    async def conditions(self, find_id: FindId) -> list[JsonObject]:
        """Return the conditions that all have to hold."""
        equal = {
            "status": self.status,
            "reviewStatus": self.review_status,
            "kind": self.kind,
            "startedBy.apiKey": self.api_key,
            "rootExecutionId": self.root_execution_id,
            "conversationId": self.conversation_id,
        }
        fields: JsonObject = {name: str(value) for name, value in equal.items() if value is not None}
        related = {"project": self.project, "episode": self.episode}
        fields |= {name: ObjectId(value) for name, value in related.items() if value is not None}
        if self.agent is not None:
            fields["agent"] = await find_id(Agent, {"agentId": self.agent})
        if self.department is not None:
            fields["department"] = await find_id(Department, {"slug": self.department})
        if self.legal_hold is not None:
            fields["legalHold"] = True if self.legal_hold else {"$ne": True}
        if self.is_root is not None:
            fields["parentExecutionId"] = None if self.is_root else {"$ne": None}
        if self.min_cost_usd is not None:
            fields["listedCostUsd"] = {"$gte": self.min_cost_usd}
        bounds = {"$gte": self.started_from, "$lt": self.started_to}
        if any(bounds.values()):
            fields["startedAt"] = {operator: value for operator, value in bounds.items() if value}
        found = [fields] if fields else []
        if self.awaiting is not None:
            found.append(AWAITING[self.awaiting])
        if self.q is not None:
            found.append(words_condition(self.q))
        return found


def words_condition(q: str) -> JsonObject:
    """Return the condition for prompts with words that begin with those of the search."""
    words = words_in(q, MAX_SEARCH_WORDS)
    if not words:
        return NOTHING
    return {"$and": [{"promptWords": {"$regex": f"^{re.escape(word)}"}} for word in words]}

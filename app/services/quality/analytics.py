"""Quality figures of judged executions: scores, gates, revisions and reviews, by department, agent and day."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.kit.json_values import JsonObject
from app.kit.schemas import ApiModel
from app.models.agent_execution import AgentExecution, ReviewStatus
from app.models.catalog.agent import Agent
from app.models.catalog.department import Department
from app.services.access.api_keys import Caller
from app.services.quality.gates import GateName

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
TARGET_SHARE = 0.8
"""The research report's target: this share of executions should meet their threshold."""


class QualityGroup(ApiModel):
    """Judged executions of one department, agent or day."""

    key: str
    """The department's slug, the agent's id, or the day as `YYYY-MM-DD` in UTC. A deleted department or agent is
    shown by its document id."""
    executions: int
    """The number of judged executions."""
    average_score: float | None
    """The mean score, 0 to 100, of the executions with a score."""
    gate_pass_rate: float
    """The share of executions that passed their gate, 0 to 1."""
    meeting_threshold: float | None
    """The share of scored executions that reached their agent's `qualityThreshold`, 0 to 1."""
    revision_rate: float
    """The share of executions that were revised at least once, 0 to 1."""


class GateRate(ApiModel):
    """The pass rate of a gate; an execution without a score did not pass."""

    name: GateName
    """The gate."""
    executions: int
    """The number of executions that the gate checked."""
    passed: int
    """The number of executions that passed."""
    unscored: int
    """The number of executions without a score. They do not pass."""
    pass_rate: float
    """The share of executions that passed, 0 to 1."""


class ReviewCounts(ApiModel):
    """The number of executions at each review status."""

    pending: int
    """The number of executions without a review."""
    approved: int
    """The number of approved executions."""
    rejected: int
    """The number of rejected executions."""
    revision_needed: int
    """The number of executions that await a revision."""


class Agreement(ApiModel):
    """How often people and the judge agree: approved and passed, or neither."""

    reviewed: int
    """The number of executions that a person has reviewed and the judge has scored."""
    agreed: int
    """The number of those in which the person and the judge agree."""
    share: float | None
    """`agreed` divided by `reviewed`; `null` without reviews."""


class QualityAnalytics(ApiModel):
    """The quality of judged executions; rates and shares are 0 to 1, `null` where there is nothing to divide by."""

    executions: int
    """The number of judged executions."""
    average_score: float | None
    """The mean score, 0 to 100, of the executions with a score."""
    meeting_threshold: float | None
    """The share of scored executions that reached their agent's `qualityThreshold`."""
    target: float
    """The share that should reach their threshold, to compare `meetingThreshold` with."""
    revision_rate: float | None
    """The share of executions that were revised at least once."""
    gates: list[GateRate]
    """The pass rate of each gate."""
    reviews: ReviewCounts
    """The counted executions by their review status."""
    agreement: Agreement
    """How often people and the judge agree."""
    by_department: list[QualityGroup]
    """The same figures for each department, in the order of their slugs."""
    by_agent: list[QualityGroup]
    """The same figures for each agent, in the order of their ids."""
    by_day: list[QualityGroup]
    """The same figures for each day, the earliest first."""


@dataclass(frozen=True)
class QualityFilter:
    """Which executions to count, by when they started."""

    project: str | None = None
    department: str | None = None
    agent: str | None = None
    started_from: datetime | None = None
    started_to: datetime | None = None


FIELDS: JsonObject = {
    "_id": 0,
    "startedAt": 1,
    "department": 1,
    "agent": 1,
    "qualityScore": 1,
    "qualityThreshold": 1,
    "retryCount": 1,
    "reviewStatus": 1,
    "qualityGate.name": 1,
    "qualityGate.passed": 1,
    "personReview.status": 1,
    "personReview.passed": 1,
}
"""One index holds all of these fields, so the query reads no documents."""


def counted(condition: object) -> JsonObject:
    """Return the expression that counts the documents of a group that meet a condition."""
    return {"$sum": {"$cond": [condition, 1, 0]}}


HAS_SCORE = {"$isNumber": "$qualityScore"}
TALLY: JsonObject = {
    "executions": {"$sum": 1},
    "scored": counted(HAS_SCORE),
    "scores": {"$sum": {"$ifNull": ["$qualityScore", 0]}},
    "passed": counted("$qualityGate.passed"),
    "met": counted({"$and": [HAS_SCORE, {"$gte": ["$qualityScore", {"$ifNull": ["$qualityThreshold", 0]}]}]}),
    "revised": counted({"$gt": ["$retryCount", 0]}),
}
APPROVED = {"$eq": ["$personReview.status", ReviewStatus.APPROVED.value]}
FACETS: JsonObject = {
    "all": [{"$group": {"_id": None, **TALLY}}],
    "byDepartment": [{"$group": {"_id": "$department", **TALLY}}],
    "byAgent": [{"$group": {"_id": "$agent", **TALLY}}],
    "byDay": [{"$group": {"_id": {"$dateToString": {"format": "%Y-%m-%d", "date": "$startedAt"}}, **TALLY}}],
    "gates": [{"$group": {"_id": "$qualityGate.name", **TALLY}}],
    "reviews": [{"$group": {"_id": "$reviewStatus", "executions": {"$sum": 1}}}],
    "agreement": [
        {"$match": {"personReview.status": {"$gt": ""}, "personReview.passed": {"$in": [True, False]}}},
        {
            "$group": {
                "_id": None,
                "reviewed": {"$sum": 1},
                "agreed": counted({"$eq": [APPROVED, "$personReview.passed"]}),
            }
        },
    ],
}


@dataclass(frozen=True)
class QualityQueries:
    """Computes quality figures from the executions that a caller may see."""

    database: Database

    async def read(self, wanted: QualityFilter, caller: Caller) -> QualityAnalytics:
        """Return the quality of the executions that match a filter."""
        pipeline = [{"$match": await self._selector(wanted, caller)}, {"$project": FIELDS}, {"$facet": FACETS}]
        executions = collection_of(self.database, AgentExecution)
        found: Raw = (await (await executions.aggregate(pipeline)).to_list())[0]
        total = next(iter(found["all"]), None)
        agreement = next(iter(found["agreement"]), {"reviewed": 0, "agreed": 0})
        reviews = {row["_id"]: row["executions"] for row in found["reviews"]}
        departments = await self._names(Department, "slug", found["byDepartment"])
        agents = await self._names(Agent, "agentId", found["byAgent"])
        return QualityAnalytics(
            executions=total["executions"] if total else 0,
            average_score=average(total),
            meeting_threshold=share(total["met"], total["scored"]) if total else None,
            target=TARGET_SHARE,
            revision_rate=share(total["revised"], total["executions"]) if total else None,
            gates=[gate_rate(row) for row in found["gates"] if row["_id"] in list(GateName)],
            reviews=ReviewCounts.model_validate({one.name.lower(): reviews.get(one.value, 0) for one in ReviewStatus}),
            agreement=Agreement(
                reviewed=agreement["reviewed"],
                agreed=agreement["agreed"],
                share=share(agreement["agreed"], agreement["reviewed"]),
            ),
            by_department=groups(found["byDepartment"], departments),
            by_agent=groups(found["byAgent"], agents),
            by_day=groups(found["byDay"], {}),
        )

    async def _selector(self, wanted: QualityFilter, caller: Caller) -> JsonObject:
        bounds = {"$gte": wanted.started_from or BEGINNING, "$lt": wanted.started_to}
        started = {operator: value for operator, value in bounds.items() if value}
        selector: JsonObject = {"qualityGate.name": {"$gt": ""}, "startedAt": started}
        if wanted.project is not None:
            visible = [ObjectId(wanted.project)] if caller.may_see(wanted.project) else []
            selector["project"] = {"$in": visible}
        elif caller.projects is not None:
            selector["project"] = {"$in": [ObjectId(one) for one in caller.projects if ObjectId.is_valid(one)]}
        if wanted.department is not None:
            selector["department"] = await self._id_of(Department, {"slug": wanted.department})
        if wanted.agent is not None:
            selector["agent"] = await self._id_of(Agent, {"agentId": wanted.agent})
        return selector

    async def _id_of(self, document: type[Agent | Department], selector: Raw) -> ObjectId:
        """Return the id of a natural key; an unknown key gets an id that no document has."""
        raw = await collection_of(self.database, document).find_one(selector, {"_id": 1})
        return raw["_id"] if raw else ObjectId()

    async def _names(self, document: type[Agent | Department], field: str, rows: list[Raw]) -> dict[Any, str]:
        ids = [row["_id"] for row in rows]
        found = collection_of(self.database, document).find({"_id": {"$in": ids}}, {field: 1})
        return {raw["_id"]: raw[field] async for raw in found if isinstance(raw.get(field), str)}


def share(part: int, whole: int) -> float | None:
    """Return a share from 0 to 1, or `None` if there is nothing to divide by."""
    return round(part / whole, 4) if whole else None


def average(tally: Raw | None) -> float | None:
    """Return the mean score of a group, or `None` without scores."""
    return round(tally["scores"] / tally["scored"], 2) if tally and tally["scored"] else None


def gate_rate(row: Raw) -> GateRate:
    """Build the pass rate of a gate."""
    return GateRate(
        name=GateName(row["_id"]),
        executions=row["executions"],
        passed=row["passed"],
        unscored=row["executions"] - row["scored"],
        pass_rate=share(row["passed"], row["executions"]) or 0,
    )


def groups(rows: list[Raw], names: dict[Any, str]) -> list[QualityGroup]:
    """Return groups under their natural keys, in order; deleted documents appear by id."""
    shaped = [
        QualityGroup(
            key=names.get(row["_id"], str(row["_id"])),
            executions=row["executions"],
            average_score=average(row),
            gate_pass_rate=share(row["passed"], row["executions"]) or 0,
            meeting_threshold=share(row["met"], row["scored"]),
            revision_rate=share(row["revised"], row["executions"]) or 0,
        )
        for row in rows
    ]
    return sorted(shaped, key=lambda group: group.key)

"""The indexes of `agent-executions`: Payload's, their descending counterparts, and the engine's."""

from pymongo import ASCENDING, DESCENDING, IndexModel

from app.models.base import TIMESTAMP_INDEXES, optional_index, own_index, payload_index

LIST_FILTERS = ("project", "department", "status", "reviewStatus", "kind", "conversationId")

EXECUTION_INDEXES = (
    *TIMESTAMP_INDEXES,
    payload_index("executionId", unique=True),
    payload_index("project", "startedAt"),
    payload_index("agent", "status"),
    payload_index("department", "startedAt"),
    *(own_index(name, "-startedAt") for name in LIST_FILTERS),
    own_index("-startedAt", "-_id"),
    own_index("-createdAt", "-_id"),
    own_index("rootExecutionId", "_id"),
    own_index(
        "rootExecutionId",
        *(f"tokenUsage.{name}" for name in ("input", "output", "cacheRead", "cacheWrite")),
        "costUsd",
    ),
    own_index("reviewStatus", "status", "parentExecutionId", "archivedAt", "-startedAt", "-_id", "project"),
    own_index("parentExecutionId", "-createdAt", "-_id"),
    own_index("promptWords", "rootExecutionId"),
    *(optional_index(name, "-startedAt") for name in ("episode", "startedBy.apiKey", "listedCostUsd", "legalHold")),
    optional_index("untrimmed"),
    IndexModel(
        [("parentExecutionId", ASCENDING), ("archivedAt", ASCENDING), ("completedAt", ASCENDING), ("_id", ASCENDING)],
        name="retention_1",
        partialFilterExpression={"completedAt": {"$exists": True}},
    ),
    IndexModel(
        [("lease.until", ASCENDING)],
        name="unfinished_lease_until_1",
        partialFilterExpression={"lease.until": {"$exists": True}},
    ),
    IndexModel(
        [("waitingFor", ASCENDING)],
        name="waitingFor_1",
        partialFilterExpression={"waitingFor": {"$exists": True}},
    ),
    IndexModel(
        [("uncounted", ASCENDING)],
        name="uncounted_1",
        partialFilterExpression={"uncounted": {"$exists": True}},
    ),
    IndexModel(
        [
            ("startedAt", DESCENDING),
            *((name, ASCENDING) for name in ("project", "department", "agent")),
            *((name, ASCENDING) for name in ("qualityScore", "qualityThreshold", "retryCount", "reviewStatus")),
            *((f"qualityGate.{name}", ASCENDING) for name in ("name", "passed")),
            *((f"personReview.{name}", ASCENDING) for name in ("status", "passed")),
        ],
        name="quality_startedAt_-1",
        partialFilterExpression={"qualityGate.name": {"$exists": True}},
    ),
    IndexModel(
        [("idempotency.key", ASCENDING)],
        name="idempotency_key_1",
        unique=True,
        partialFilterExpression={"idempotency.key": {"$exists": True}},
    ),
)

"""The audit log: its entries, and their verification, for admins whose key is valid for all projects."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.dependencies import DEFAULT_PAGE, AuditDep, Cursor, Limit, ServiceAdmin
from app.kit.paging import PageRequest
from app.kit.schemas import Text
from app.kit.validation_words import worded
from app.routers.executions.executions import Moment
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.audit.chain import HEAD, parse_head
from app.services.audit.queries import AuditEntryRead, AuditFilter
from app.services.audit.shapes import AuditVerification

router = APIRouter(prefix="/audit", tags=["audit"], route_class=StrictRoute)

AuditSort = Literal["seq", "-seq"]
Name = Annotated[Text | None, Query(min_length=1, max_length=300)]


@router.get(
    "",
    operation_id="listAuditEntries",
    response_description="The entries of the page.",
    responses=problem_responses(403),
)
async def list_audit_entries(
    audit: AuditDep,
    _: ServiceAdmin,
    actor: Annotated[Name, Query(description="The name of an actor.")] = None,
    action: Annotated[
        str | None,
        Query(
            max_length=100,
            pattern=worded(r"^[a-z]+(-[a-z]+)*\.([a-z]+|\*)$", "must be an action such as 'agent.update' or 'agent.*'"),
            description="An action such as `agent.update`, or all actions on one kind of thing, such as `agent.*`.",
        ),
    ] = None,
    target: Annotated[Name, Query(description="A kind and a key, such as `agent/plot-specialist-001`.")] = None,
    since: Annotated[Moment | None, Query(alias="from", description="At or after this time.")] = None,
    until: Annotated[Moment | None, Query(alias="to", description="Before this time.")] = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[AuditSort, sort_query(seq="the number")] = "-seq",
) -> PageRead[AuditEntryRead]:
    """List the entries of the audit log, latest first by default. Each change gets its entry within five seconds."""
    wanted = AuditFilter(actor, action, target, since, until)
    return PageRead[AuditEntryRead].of(await audit.queries.list_entries(wanted, PageRequest(limit, sort, cursor)))


@router.get(
    "/verify",
    operation_id="verifyAuditLog",
    response_description="Whether everything matches, and the first entry or run that does not.",
    responses=problem_responses(403),
)
async def verify_audit_log(
    audit: AuditDep,
    _: ServiceAdmin,
    head: Annotated[
        str | None,
        Query(
            pattern=worded(
                f"^{HEAD.pattern}$", "must be SEQ:HASH, such as a line of DATA_DIR/audit-heads without its time"
            ),
            description="A head recorded earlier, as `SEQ:HASH`: the chain must still contain it. This detects a "
            "truncated chain.",
        ),
    ] = None,
) -> AuditVerification:
    """Verify every entry, and the stored events of every run tree whose hash is in the log.

    Each process runs one verification at a time, which reads everything: 100,000 entries take several seconds.
    """
    noted = parse_head(head) if head is not None else None
    return AuditVerification.of(await audit.verify([noted] if noted else []))

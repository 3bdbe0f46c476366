"""Executions: the audit record of every run, its events and its tree."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BeforeValidator

from app.dependencies import DEFAULT_PAGE, Cursor, Limit, Services, ServicesDep, ViewerRole
from app.errors import InvalidInput
from app.events.replay import ExecutionNotFound, StreamHead, read_events
from app.models.agent_execution import ExecutionKind, ExecutionStatus, ReviewStatus
from app.routers.pages import PageRead
from app.routers.problems import problem_responses
from app.routers.server_sent_events import sse_frames
from app.routers.strict_input import StrictRoute
from app.services.access.api_keys import Caller
from app.services.catalog.shapes import Shape
from app.services.paging import PageRequest
from app.services.runs.executions import ExecutionFilter, ExecutionRead, ExecutionSummary, TreeNode
from app.services.runs.requests import CmsId

MAX_SEQ = 2**53
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


def as_iso_text(value: object) -> object:
    """A time as people write it; a bare number could be seconds or milliseconds."""
    if isinstance(value, str) and not ISO_DATE.match(value):
        raise ValueError("must be a time in ISO 8601, such as 2026-01-31T12:00:00Z")
    return value


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a zone is taken for UTC."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 of UTC") from None


Moment = Annotated[datetime, BeforeValidator(as_iso_text), AfterValidator(in_utc)]
ExecutionSort = Literal["startedAt", "-startedAt", "createdAt", "-createdAt"]
AfterSeq = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Events after this number; 0 for all.")]
Name = Annotated[str | None, Query(max_length=200)]


class EventPage(Shape):
    """Stored events in order; ask again with `after` set to the last `seq` while there are more."""

    items: list[dict[str, Any]]
    last_seq: int
    status: ExecutionStatus


@router.get("", operation_id="listExecutions", responses=problem_responses(403))
async def list_executions(
    services: ServicesDep,
    caller: ViewerRole,
    project: Annotated[CmsId | None, Query(description="A CMS project's id.")] = None,
    agent: Name = None,
    department: Name = None,
    status: ExecutionStatus | None = None,
    review_status: Annotated[ReviewStatus | None, Query(alias="reviewStatus")] = None,
    kind: ExecutionKind | None = None,
    root_execution_id: Annotated[Name, Query(alias="rootExecutionId")] = None,
    conversation_id: Annotated[Name, Query(alias="conversationId")] = None,
    started_from: Annotated[Moment | None, Query(alias="from", description="Started at or after this time.")] = None,
    started_to: Annotated[Moment | None, Query(alias="to", description="Started before this time.")] = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[ExecutionSort, Query(description="A field; with a minus for the descending order.")] = "-startedAt",
) -> PageRead[ExecutionSummary]:
    """List executions, the latest first."""
    wanted = ExecutionFilter(
        project=project,
        agent=agent,
        department=department,
        status=status,
        review_status=review_status,
        kind=kind,
        root_execution_id=root_execution_id,
        conversation_id=conversation_id,
        started_from=started_from,
        started_to=started_to,
    )
    found = await services.archive.list_executions(wanted, PageRequest(limit, sort, cursor), caller)
    return PageRead[ExecutionSummary].of(found)


@router.get("/{execution_id}", operation_id="getExecution", responses=problem_responses(403, 404))
async def get_execution(execution_id: str, services: ServicesDep, caller: ViewerRole) -> ExecutionRead:
    """Read one execution, without its events."""
    return await services.archive.get_execution(execution_id, caller)


@router.get("/{execution_id}/tree", operation_id="getExecutionTree", responses=problem_responses(403, 404))
async def get_execution_tree(execution_id: str, services: ServicesDep, caller: ViewerRole) -> TreeNode:
    """Read an execution with all that it started: status, score and tokens of each."""
    return await services.archive.get_tree(execution_id, caller)


@router.get("/{execution_id}/events", operation_id="listExecutionEvents", responses=problem_responses(403, 404))
async def list_execution_events(
    execution_id: str, services: ServicesDep, caller: ViewerRole, after: AfterSeq = 0, limit: Limit = DEFAULT_PAGE
) -> EventPage:
    """List stored events: of a root its whole tree's, of a child its own."""
    head = await visible_head(services, execution_id, caller)
    events = await read_events(services.database, head, after, limit)
    return EventPage(items=events, last_seq=head.last_seq, status=head.status)


@router.get(
    "/{execution_id}/events/stream",
    operation_id="streamExecutionEvents",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "`id` is `seq`, `event` the type, `data` the event.",
        },
        204: {"description": "The run is over and nothing follows."},
        **problem_responses(403, 404),
    },
)
async def stream_execution_events(
    execution_id: str,
    services: ServicesDep,
    caller: ViewerRole,
    after: Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="Wins over `Last-Event-ID`.")] = None,
    last_event_id: Annotated[str | None, Header(description="The `id` of the last event seen.")] = None,
) -> Response:
    """Follow events as Server-Sent Events: stored ones first, then live, until `execution-end`."""
    head = await visible_head(services, execution_id, caller)
    position = after if after is not None else last_seen(last_event_id)
    if head.status.is_terminal and position >= head.last_seq:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    frames: AsyncIterator[str] = sse_frames(services.hub, head, position)
    return StreamingResponse(
        frames, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def visible_head(services: Services, execution_id: str, caller: Caller) -> StreamHead:
    """Where an execution's stream stands, for a caller who may see it."""
    head = await services.hub.head(execution_id)
    if not caller.may_see(head.project):
        raise ExecutionNotFound(execution_id)
    return head


def last_seen(last_event_id: str | None) -> int:
    """The number in `Last-Event-ID`; an empty one is none."""
    if not last_event_id:
        return 0
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= len(str(MAX_SEQ)):
        return min(int(last_event_id), MAX_SEQ)
    raise InvalidInput.of_field("Last-Event-ID", "must be the number of an event")

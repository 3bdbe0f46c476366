"""The events of an execution over HTTP: pages of stored events, single events, and the stream."""

from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.dependencies import (
    DEFAULT_PAGE,
    CredentialsDep,
    DatabaseDep,
    FollowerRole,
    HubDep,
    Limit,
    StreamsDep,
    ViewerRole,
    credential_of,
    stream_key,
)
from app.errors import InvalidInput
from app.events.log.full_events import read_full_event
from app.events.replay import ExecutionNotFound, StreamHead, read_frames
from app.events.stream.broadcaster import Subscription
from app.events.stream.hub import EventHub
from app.events.stream.sinks import QueueSink
from app.kit.json_limits import MAX_INTEGER
from app.kit.schemas import ApiModel
from app.models.agent_execution import ExecutionStatus
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.server_sent_events import EventStream, sse_frames
from app.routers.http.strict_input import StrictRoute
from app.services.access.api_keys import Caller

router = APIRouter(prefix="/executions/{execution_id}/events", tags=["executions"], route_class=StrictRoute)

AfterSeq = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Return events after this number; 0 returns all.")]
Seq = Annotated[int, Path(ge=1, le=MAX_INTEGER, description="The event's number.")]


class EventPage(ApiModel):
    """A page of stored events. For the next page, set `after` to the last `seq`."""

    items: list[dict[str, Any]]
    """The events in the order of `seq`. An event with a payload over 64 KiB is truncated: it has `truncated: true`, and
    the `size` and `sha256` of its complete JSON."""
    last_seq: int
    """The number of the last stored event."""
    status: ExecutionStatus
    """The status of the execution."""


@router.get(
    "",
    operation_id="listExecutionEvents",
    response_description="The stored events of the page.",
    response_model=EventPage,
    responses=problem_responses(403, 404, 410),
)
async def list_execution_events(
    execution_id: ExecutionIdPath,
    hub: HubDep,
    database: DatabaseDep,
    caller: ViewerRole,
    after: AfterSeq = 0,
    limit: Limit = DEFAULT_PAGE,
) -> Response:
    """List stored events: for a root those of its tree, for a child its own."""
    head = await visible_head(hub, execution_id, caller)
    frames = await read_frames(database, head, after, limit)
    rest = orjson.dumps({"lastSeq": head.last_seq, "status": head.status})
    content = b'{"items":[' + b",".join(frame.data for frame in frames) + b"]," + rest[1:]
    return Response(content, media_type="application/json")


@router.get(
    "/stream",
    operation_id="streamExecutionEvents",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "`id` is `seq`, `event` the type, `data` the event.",
        },
        204: {"description": "The run has ended and nothing follows."},
        **problem_responses(403, 404, 410, 429),
    },
)
async def stream_execution_events(
    request: Request,
    execution_id: ExecutionIdPath,
    hub: HubDep,
    streams: StreamsDep,
    credentials: CredentialsDep,
    caller: FollowerRole,
    after: AfterSeq = 0,
    last_event_id: Annotated[
        str | None,
        Header(description="The `id` of the last event received. It overrides `after`."),
    ] = None,
) -> Response:
    """Follow events as Server-Sent Events: stored ones first, then live, until `execution-end`."""
    head = await visible_head(hub, execution_id, caller)
    position = last_seen(last_event_id, after)
    if head.status.is_terminal and position >= head.last_seq:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    head.ensure_reached(position)
    if head.archive is not None:
        await head.archive.manifest()  # a stream that cannot begin is answered with a problem, not a stream
    key = stream_key(caller, request)
    streams.ensure_room(key)
    sink = QueueSink()
    subscription = Subscription(head, position, sink)
    counted = streams.one(key)
    frames = sse_frames(hub, subscription, sink, credentials, credential_of(request), counted)
    return EventStream(frames, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


@router.get(
    "/{seq}",
    operation_id="getExecutionEvent",
    response_description="The complete event.",
    response_model=dict[str, Any],
    responses=problem_responses(403, 404, 410),
)
async def get_execution_event(
    execution_id: ExecutionIdPath, seq: Seq, hub: HubDep, database: DatabaseDep, caller: ViewerRole
) -> Response:
    """Read one complete event, which lists and streams may truncate."""
    head = await visible_head(hub, execution_id, caller)
    return Response(await read_full_event(database, head, seq), media_type="application/json")


async def visible_head(hub: EventHub, execution_id: str, caller: Caller) -> StreamHead:
    """Return the head of an execution's stream, if the caller may see the execution."""
    head = await hub.head(execution_id)
    if not caller.may_see(head.project):
        raise ExecutionNotFound(execution_id)
    return head


def last_seen(last_event_id: str | None, after: int) -> int:
    """Return the number in `Last-Event-ID`, else `after`. An empty header counts as missing."""
    if not last_event_id:
        return after
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= len(str(MAX_INTEGER)):
        return min(int(last_event_id), MAX_INTEGER)
    raise InvalidInput.of_field("Last-Event-ID", "must be the number of an event")

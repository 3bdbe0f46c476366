"""Tickets for event streams."""

from fastapi import APIRouter, Request

from app.dependencies import HubDep, TicketsDep, ViewerRole, credential_of
from app.kit.schemas import ApiModel, Timestamp
from app.routers.executions.events import visible_head
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.access.stream_tickets import ANONYMOUS

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


class StreamTicketCreated(ApiModel):
    """A ticket. No other response shows it."""

    ticket: str
    """The value of `?ticket=` for the event stream of this execution."""
    expires_at: Timestamp
    """When the ticket expires. A stream that is already open continues."""


@router.post(
    "/{execution_id}/stream-ticket",
    operation_id="createStreamTicket",
    response_description="The ticket.",
    status_code=201,
    responses=problem_responses(403, 404),
)
async def create_stream_ticket(
    request: Request, execution_id: ExecutionIdPath, hub: HubDep, tickets: TicketsDep, caller: ViewerRole
) -> StreamTicketCreated:
    """Create a ticket that lets a browser's `EventSource`, which cannot send a key, open this execution's stream.

    The ticket is valid for 60 seconds and for this stream only: `GET /executions/{executionId}/events/stream?ticket=…`.
    When its key or token becomes invalid, the ticket does too, and streams that it opened are closed.
    """
    await visible_head(hub, execution_id, caller)
    ticket, expires_at = await tickets.create(execution_id, credential_of(request) or ANONYMOUS)
    return StreamTicketCreated(ticket=ticket, expires_at=expires_at)

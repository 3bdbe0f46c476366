"""What starting a run answers: 202 at once, or the finished execution to who prefers to wait."""

import asyncio
import contextlib
import re
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Header, Response
from pymongo.errors import PyMongoError

from app.dependencies import Services
from app.errors import AppError
from app.events.stream.bus import Ending
from app.models.api_key import Role
from app.routers.http.problems import BODY_PROBLEMS
from app.services.access.api_keys import Caller
from app.services.runs.accept.starter import AcceptedRun
from app.services.runs.queries.executions import ExecutionRead, read_of

MAX_WAIT_SECONDS = 60
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\"?)(\d+)\1(?:$|[,;\s])", re.IGNORECASE | re.ASCII)
MAX_WAIT_DIGITS = 9
"""What has more is more than anybody may wait; a number of thousands of digits is not even read."""
RUN_PROBLEMS = (*BODY_PROBLEMS, 403, 404, 409, 429)
RUN_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ExecutionRead, "description": "With `Prefer: wait=SECONDS`: the finished execution."},
    202: {
        "model": ExecutionRead,
        "description": "Accepted: stored with majority write concern. `Location` is the execution.",
        "headers": {
            "Location": {"schema": {"type": "string"}},
            "Idempotency-Replayed": {
                "schema": {"type": "string"},
                "description": "`true` where an earlier request with the same `Idempotency-Key` made the execution.",
            },
        },
    },
}

Prefer = Annotated[
    str | None,
    Header(description="`wait=SECONDS` (at most 60) answers 200 with the finished execution if it ends by then."),
]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same body gives the same execution back, however often it is sent.",
    ),
]


async def answer_run(
    accepted: AcceptedRun,
    services: Services,
    caller: Caller,
    response: Response,
    prefer: str | None,
) -> ExecutionRead:
    """The accepted execution, or the finished one."""
    if accepted.replayed:
        found = await services.executions.get_execution(accepted.root.execution_id, caller)
        response.headers["Idempotency-Replayed"] = "true"
    else:
        found = await accepted.as_read()
    response.headers["Location"] = found.links.self
    ended = await find_ended(accepted, services, caller, wait_seconds(prefer))
    if ended is None:
        return found
    response.status_code = HTTPStatus.OK
    response.headers["Preference-Applied"] = "wait"
    return ended


def wait_seconds(prefer: str | None) -> int:
    """How long the client prefers to wait; a preference that cannot be read is none."""
    wanted = WAIT.search(prefer or "")
    return min(int(wanted[2][:MAX_WAIT_DIGITS]), MAX_WAIT_SECONDS) if wanted else 0


async def find_ended(accepted: AcceptedRun, services: Services, caller: Caller, seconds: int) -> ExecutionRead | None:
    """The execution, if it ended within a time.

    A run of this process is known when its task ends, which costs the database nothing; only one that left the
    process before its end is followed by its events. Without its database it is accepted all the same, and so it is
    where the caller has as much open as it may: a request that waits holds a connection like a stream.
    """
    if seconds == 0:
        return None
    execution_id = accepted.root.execution_id
    with contextlib.suppress(TimeoutError, PyMongoError, AppError), services.streams.one(caller.id):
        async with asyncio.timeout(seconds):
            ended = await services.engine.wait_for_end(execution_id)
            if ended is None:
                await wait_for_ending(services, execution_id)
            elif not accepted.replayed:
                return await read_of(ended, accepted.names, is_admin=caller.has(Role.ADMIN))
            return await services.executions.get_execution(execution_id, caller, known=accepted.names)
    return None


async def wait_for_ending(services: Services, execution_id: str) -> None:
    """Follow an execution's events until it has ended, wherever it runs."""
    async for item in services.hub.follow(await services.hub.head(execution_id), 0):
        if isinstance(item, Ending):
            return

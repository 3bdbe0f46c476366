"""What starting a run answers: 202 at once, or the finished execution to who prefers to wait."""

import asyncio
import re
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Header, Response

from app.dependencies import Services
from app.events.bus import Ending
from app.routers.problems import BODY_PROBLEMS
from app.services.access.api_keys import Caller
from app.services.runs.executions import ExecutionRead
from app.services.runs.starting import AcceptedRun

MAX_WAIT_SECONDS = 60
WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")
RUN_PROBLEMS = (*BODY_PROBLEMS, 403, 404, 409, 429)
RUN_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ExecutionRead, "description": "With `Prefer: wait=SECONDS`: the finished execution."},
    202: {
        "model": ExecutionRead,
        "description": "Accepted: stored with majority write concern. `Location` is the execution.",
        "headers": {"Location": {"schema": {"type": "string"}}},
    },
}

Prefer = Annotated[
    str | None,
    Header(description="`wait=SECONDS` (at most 60) answers 200 with the finished execution if it ends by then."),
]


async def answer_run(
    accepted: AcceptedRun,
    services: Services,
    caller: Caller,
    response: Response,
    prefer: str | None,
) -> ExecutionRead:
    """The accepted execution, or the finished one."""
    found = accepted.as_read()
    response.headers["Location"] = found.links.self
    if not await wait_for_end(services, found.execution_id, wait_seconds(prefer)):
        return found
    response.status_code = HTTPStatus.OK
    response.headers["Preference-Applied"] = "wait"
    return await services.archive.get_execution(found.execution_id, caller)


def wait_seconds(prefer: str | None) -> int:
    """How long the client prefers to wait; a preference that cannot be read is none."""
    wanted = WAIT.search(prefer or "")
    return min(int(wanted[1]), MAX_WAIT_SECONDS) if wanted else 0


async def wait_for_end(services: Services, execution_id: str, seconds: int) -> bool:
    """Whether the execution ended within a time."""
    if seconds == 0:
        return False
    head = await services.hub.head(execution_id)
    try:
        async with asyncio.timeout(seconds):
            async for item in services.hub.follow(head, 0):
                if isinstance(item, Ending):
                    return True
    except TimeoutError:
        pass
    return False

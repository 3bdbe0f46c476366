"""Responses to starting a run: 202 at once, or the finished execution if the client prefers to wait."""

import asyncio
import contextlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from pymongo.errors import PyMongoError

from app.dependencies import EngineDep, ExecutionQueriesDep, HubDep, StreamsDep
from app.errors import AppError
from app.events.stream.hub import EventHub
from app.kit.validation_words import worded
from app.routers.http.problems import BODY_PROBLEMS
from app.services.access.api_keys import Caller
from app.services.runs.accept.starter import AcceptedRun
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.queries.execution_shapes import ExecutionRead
from app.services.runs.queries.executions import ExecutionQueries
from app.services.usage.open_streams import OpenStreams

MAX_WAIT_SECONDS = 60
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\"?)(\d+)\1(?:$|[,;\s])", re.IGNORECASE | re.ASCII)
MAX_WAIT_DIGITS = 9
"""The digits of a wait that are read. Longer numbers exceed the maximum anyway."""
RUN_PROBLEMS = (*BODY_PROBLEMS, 403, 404, 409, 429)
RUN_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ExecutionRead, "description": "The finished execution, with `Prefer: wait=SECONDS`."},
    202: {
        "model": ExecutionRead,
        "description": "Accepted: stored with majority write concern. `Location` is the execution.",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "The path of the execution."},
            "Idempotency-Replayed": {
                "schema": {"type": "string"},
                "description": "`true` if an earlier request with the same `Idempotency-Key` created the execution.",
            },
        },
    },
}

Prefer = Annotated[
    str | None,
    Header(description="`wait=SECONDS` (at most 60) returns 200 with the finished execution if it ends in time."),
]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=worded(r"^[\x21-\x7e]+$", "must consist of printable ASCII characters without spaces"),
        description="Any key. Repeated requests with the same key and body return the same execution.",
    ),
]


@dataclass(frozen=True)
class RunResponder:
    """Answers a request that started a run."""

    executions: ExecutionQueries
    engine: RunEngine
    hub: EventHub
    streams: OpenStreams
    response: Response
    prefer: str | None

    async def answer(self, accepted: AcceptedRun, caller: Caller) -> ExecutionRead:
        """Return the accepted execution, or the finished one if it ends while the client prefers to wait."""
        if accepted.replayed:
            found = await self.executions.get_execution(accepted.root.execution_id, caller)
            self.response.headers["Idempotency-Replayed"] = "true"
        else:
            found = await accepted.as_read()
        self.response.headers["Location"] = found.links.self
        seconds = wait_seconds(self.prefer)
        ended = await self._find_ended(accepted, caller, seconds)
        if ended is None:
            return await self._as_it_is_now(accepted, caller) or found if seconds else found
        self.response.status_code = HTTPStatus.OK
        self.response.headers["Preference-Applied"] = "wait"
        return ended

    async def _find_ended(self, accepted: AcceptedRun, caller: Caller, seconds: int) -> ExecutionRead | None:
        """Return the execution if it ends within a time.

        The end of a run of this process is the end of its task, which costs the database nothing; a run that another
        process continues is followed until its end is reported. A waiting request counts as an open stream. The run
        stays accepted if the database fails or if the caller has too many streams open.
        """
        if seconds == 0:
            return None
        execution_id = accepted.root.execution_id
        with contextlib.suppress(TimeoutError, PyMongoError, AppError), self.streams.one(caller.id):
            async with asyncio.timeout(seconds):
                ended = await self.engine.wait_for_end(execution_id)
                if ended is None:
                    await self.hub.wait_for_end(execution_id)
                elif not accepted.replayed:
                    return await self.executions.read(ended, accepted.names, caller)
                return await self.executions.get_execution(execution_id, caller, known=accepted.names)
        return None

    async def _as_it_is_now(self, accepted: AcceptedRun, caller: Caller) -> ExecutionRead | None:
        """Return the current state of an execution that did not end within the wait."""
        with contextlib.suppress(PyMongoError, AppError):
            return await self.executions.get_execution(accepted.root.execution_id, caller, known=accepted.names)
        return None


async def provide_responder(
    executions: ExecutionQueriesDep,
    engine: EngineDep,
    hub: HubDep,
    streams: StreamsDep,
    response: Response,
    prefer: Prefer = None,
) -> RunResponder:
    """Return the responder of the request."""
    return RunResponder(executions, engine, hub, streams, response, prefer)


RunResponderDep = Annotated[RunResponder, Depends(provide_responder)]


def wait_seconds(prefer: str | None) -> int:
    """Return the seconds that the client prefers to wait; 0 if the preference is missing or invalid."""
    wanted = WAIT.search(prefer or "")
    return min(int(wanted[2][:MAX_WAIT_DIGITS]), MAX_WAIT_SECONDS) if wanted else 0

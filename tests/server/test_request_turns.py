"""Requests start a few per round of the event loop, in the order of their arrival."""

import asyncio
import itertools
from typing import Any

from starlette.types import Receive, Scope, Send

from app.server.edge.request_turns import STARTS_PER_ROUND, RequestTurns


class Started:
    """An application that records which requests started."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record the request."""
        self.numbers.append(scope["number"])


async def never() -> Any:  # noqa: ANN401 - a message that does not come
    """Fail: these requests have no messages."""
    raise AssertionError


async def nothing(_: object) -> None:
    """Send nothing."""


async def test_requests_that_arrive_together_start_a_few_per_round_in_order() -> None:
    app = Started()
    turns = RequestTurns(app)
    tasks = [asyncio.create_task(turns({"type": "http", "number": number}, never, nothing)) for number in range(20)]

    counts = [0]
    while len(app.numbers) < 20:
        await asyncio.sleep(0)
        counts.append(len(app.numbers))
    await asyncio.gather(*tasks)

    assert app.numbers == list(range(20))
    assert max(after - before for before, after in itertools.pairwise(counts)) == STARTS_PER_ROUND


async def test_a_request_that_is_cancelled_while_it_waits_takes_no_turn() -> None:
    app = Started()
    turns = RequestTurns(app)
    tasks = [asyncio.create_task(turns({"type": "http", "number": number}, never, nothing)) for number in range(10)]
    await asyncio.sleep(0)

    tasks[6].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert app.numbers == [0, 1, 2, 3, 4, 5, 7, 8, 9]


async def test_the_lifespan_waits_for_no_turn() -> None:
    app = Started()
    turns = RequestTurns(app)

    await asyncio.gather(*(turns({"type": "lifespan", "number": number}, never, nothing) for number in range(10)))

    assert len(app.numbers) == 10

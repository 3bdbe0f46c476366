"""Starts few requests in each round of the event loop, so that runs and open streams continue between them."""

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

STARTS_PER_ROUND = 3
"""The start of a request, up to its first wait, takes about a millisecond."""


class RequestTurns:
    """Starts waiting requests and handshakes in the order of their arrival, a few per round."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._left = STARTS_PER_ROUND
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_counting = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on when its turn has come."""
        if scope["type"] != "lifespan":
            await self._turn()
        await self._app(scope, receive, send)

    async def _turn(self) -> None:
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._start_round)
        if self._left and not self._waiting:
            self._left -= 1
            return
        self._waiting.append(asyncio.get_running_loop().create_future())
        await self._waiting[-1]

    def _start_round(self) -> None:
        self._left = STARTS_PER_ROUND
        self._is_counting = bool(self._waiting)
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its request may have been cancelled
                turn.set_result(None)
                self._left -= 1
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._start_round)

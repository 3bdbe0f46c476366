"""The worker's end of the pipes to the service. Only workers import it: standard library only."""

import json
import os
import select
import sys
from collections.abc import Mapping
from typing import Any

from app.services.tools.sandbox.protocol import ANSWER, CALL, LENGTH, frame


class ServicePipe:
    """Unbuffered frames to and from the service, so that polling the descriptor shows whether one has arrived."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self.open_fetches = 0

    @classmethod
    def claim(cls) -> "ServicePipe":
        """Stdin and stdout under separate descriptors; prints and reads of other code go nowhere."""
        source, sink = os.dup(0), os.dup(1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        return cls(source, sink)

    def receive_call(self) -> bytes | None:
        """Return the next call; `None` if the service has closed the pipe.

        Answers that arrive first are skipped: they belong to a call that ended without them.
        """
        self.open_fetches = 0
        while (body := self._receive()) is not None:
            if body[:1] == CALL:
                return body[1:]
        return None

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message completely."""
        left = memoryview(frame(json.dumps(message).encode("ascii")))
        while left:
            left = left[os.write(self._sink, left) :]

    def send_fetches(self, fetches: list[dict[str, Any]]) -> None:
        """Pass a tool's requests of `fetch` on to the service."""
        for fetch in fetches:
            self.open_fetches += 1
            self.send({"fetch": fetch})

    def wait(self, seconds: float) -> list[str]:
        """Wait at most `seconds` for an answer to an open request; exits if the service has closed the pipe."""
        if not select.select([self._source], [], [], seconds)[0]:
            return []
        body = self._receive()
        if body is None or body[:1] != ANSWER:
            sys.exit()
        self.open_fetches -= 1
        return [body[1:].decode()]

    def _receive(self) -> bytes | None:
        header = self._read(LENGTH.size)
        return None if header is None else self._read(*LENGTH.unpack(header))

    def _read(self, length: int) -> bytes | None:
        body = bytearray()
        while len(body) < length:
            part = os.read(self._source, min(length - len(body), 1024 * 1024))
            if not part:
                return None
            body += part
        return bytes(body)


def silence_errors() -> None:
    """Discard stderr from here on; before the worker is ready, stderr says why it cannot start."""
    os.dup2(1, 2)

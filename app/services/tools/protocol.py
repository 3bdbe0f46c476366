"""What the service and its tool workers say to each other: length-prefixed JSON over a pipe.

Both ends import this module, and a worker must start fast and know nothing of the service: standard library only.
A request is `{"code", "input", "context", "checkOnly"}`. A reply is `{"output", "console", "retire"}`, where `output`
is JSON text, or `{"error": {"code", "message"}, "retire"}`; `retire` asks for a new worker in this one's place.
"""

import json
import struct
from collections.abc import Mapping

MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_OUTPUT_BYTES = 256 * 1024
MAX_OUTPUT_DEPTH = 100
MAX_CONSOLE_CHARACTERS = 8 * 1024
# An output of nothing but quotes or non-ASCII text grows threefold when it is wrapped into a reply.
MAX_REPLY_BYTES = 2 * 1024 * 1024

LENGTH = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """The body with its length in front: four bytes, big-endian."""
    return LENGTH.pack(len(body)) + body


def encode_request(body: Mapping[str, object]) -> bytes:
    """A request as the worker's script reads it, with the limits that the script keeps itself.

    Raises:
        ValueError: a value is not JSON (`NaN`, a circle).
        RecursionError: a value is nested too deeply.
    """
    limits = {"maxConsole": MAX_CONSOLE_CHARACTERS, "maxOutput": MAX_OUTPUT_BYTES}
    return json.dumps({**body, **limits}, allow_nan=False).encode("ascii")

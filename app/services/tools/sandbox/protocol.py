"""The protocol between the service and its tool workers: length-prefixed JSON over a pipe.

Both sides import this module, and workers must start fast and have no access to the service: standard library only.

Frames to a worker begin with their type: a call, or an answer to one of its requests. A call is `{"code", "input",
"context", "checkOnly", …}`. A reply is `{"output", "console", "memoryBytes", "retire"}` with `output` as JSON text, or
`{"error": {"code", "message"}, …}`; `retire` asks the service to replace this worker, `cause` tells the log why
the engine failed. Before its reply a worker may send `{"fetch": {"id", "url", "method", "headers", "text" or "base64",
"redirect"}}`; the answer is `{"id", "status", "statusText", "url", "redirected", "headers", "text" or "base64"}` or
`{"id", "error"}`.
"""

import json
import os
import struct
from collections.abc import Mapping

MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_OUTPUT_BYTES = 256 * 1024
MAX_OUTPUT_DEPTH = 100
MAX_CONSOLE_CHARACTERS = 8 * 1024
# An output of only quotes or non-ASCII text triples in size within a reply.
MAX_REPLY_BYTES = 2 * 1024 * 1024
MAX_FETCHES = 50
"""The maximum of requests per call."""
MAX_SENT_BYTES = 256 * 1024
"""The maximum of a request's body."""
SEED_BYTES = 32

CALL = b"C"
ANSWER = b"A"

LENGTH = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """Return the body prefixed with its length: four bytes, big-endian."""
    return LENGTH.pack(len(body)) + body


def encode_request(body: Mapping[str, object]) -> bytes:
    """Return a request for the worker's script, with the limits that the script enforces and fresh randomness.

    Raises:
        ValueError: a value is not JSON (`NaN`, a cycle).
        RecursionError: a value is nested too deeply.
    """
    limits = {
        "maxConsole": MAX_CONSOLE_CHARACTERS,
        "maxOutput": MAX_OUTPUT_BYTES,
        "maxFetches": MAX_FETCHES,
        "maxSent": MAX_SENT_BYTES,
    }
    seed = os.urandom(SEED_BYTES).hex()
    return json.dumps({**body, **limits, "seed": seed}, allow_nan=False).encode("ascii")

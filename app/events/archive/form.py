"""The format of an archive: one compressed file of JSON lines for each run tree, and a manifest beside it.

The file is a sequence of Zstandard frames, here called blocks, so `zstd -d` decompresses it as one. Each block has
lines of one kind, and the manifest has its place and hash: a reader finds and checks a page of events without reading
the rest. Equal trees make equal files.
"""

import hashlib
import re
from enum import StrEnum
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

FORMAT = 1
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,120}")
"""The ids that can name a file. All ids that this service makes match."""
MONTH = re.compile(r"\d{4}-\d{2}")


class LineKind(StrEnum):
    """The kinds of lines, in their order in the file."""

    EXECUTION = "execution"
    """`executionId` and `document`: the stored document without its events; dates are ISO 8601, ids are texts."""
    EVENT = "event"
    """`of`, the execution whose stream it belongs to, and `event` as it was stored and sent."""
    PAYLOAD = "payload"
    """`seq`, `sha256` and `text`: the complete JSON of an event that is truncated in its line."""
    PROMPT = "prompt"
    """`sha256` and `messages`: a prompt as it was sent."""
    APPROVAL = "approval"
    """`document`: an approval of the tree, which also stays in the database."""


class ManifestPart(BaseModel):
    """A part of the manifest, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Block(ManifestPart):
    """One compressed frame of the file."""

    kind: LineKind
    offset: int
    size_bytes: int
    text_bytes: int
    """The size of its lines, uncompressed."""
    sha256: str
    """The hash of the compressed bytes."""
    lines: int
    first_seq: int = 0
    last_seq: int = 0
    """The numbers of the first and last event or payload in it; 0 for other kinds."""


class Manifest(ManifestPart):
    """The contents of the archive of a tree."""

    format: int = FORMAT
    root_execution_id: str
    file: str
    size_bytes: int
    sha256: str
    """The hash of the compressed file."""
    completed_at: str
    last_seq: int
    counts: dict[LineKind, int]
    """The number of lines of each kind."""
    events_sha256: str
    """The digest over the tree's events, as the audit log computes it."""
    blocks: tuple[Block, ...]

    def encoded(self) -> bytes:
        """Return the text of the manifest's file."""
        return orjson.dumps(self.model_dump(mode="json", by_alias=True), option=orjson.OPT_INDENT_2) + b"\n"


def line(kind: LineKind, **fields: Any) -> bytes:  # noqa: ANN401 - any JSON values
    """Return one line of the file."""
    return orjson.dumps({"type": kind.value, **fields}) + b"\n"


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def data_name(root_id: str) -> str:
    """Return the name of a tree's compressed file."""
    return f"{root_id}.jsonl.zst"


def manifest_name(root_id: str) -> str:
    """Return the name of the manifest beside it."""
    return f"{root_id}.manifest.json"

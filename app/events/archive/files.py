"""Reading and checking the files of an archive; these functions block, so they run in threads."""

import hashlib
from pathlib import Path
from typing import Any

import orjson
import zstandard
from pydantic import ValidationError

from app.events.archive.form import Block, Manifest, sha256_of
from app.kit.json_limits import JsonObject

READ_BYTES = 1024 * 1024


class Damaged(Exception):
    """A file of an archive is missing or is not the one that was verified; the message says how."""


def read_manifest(path: Path, expected_sha256: str | None) -> Manifest:
    """Return a manifest, checked against the hash in the database.

    Raises:
        Damaged: it is missing, or not the manifest that was verified.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Damaged(problem_of(path, error)) from None
    if expected_sha256 is not None and sha256_of(data) != expected_sha256:
        raise Damaged(f"{path.name} has changed since it was verified")
    try:
        return Manifest.model_validate_json(data)
    except ValidationError:
        raise Damaged(f"{path.name} is not a manifest") from None


def ensure_present(path: Path, manifest: Manifest) -> None:
    """Check that the compressed file is there in its full size.

    Raises:
        Damaged: it is missing or truncated.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Damaged(problem_of(path, error)) from None
    if size != manifest.size_bytes:
        raise Damaged(f"{path.name} has {size} bytes instead of {manifest.size_bytes}")


def read_block(path: Path, block: Block) -> list[JsonObject]:
    """Return the lines of one block.

    Raises:
        Damaged: the file is missing, or the block differs from the verified one.
    """
    try:
        with path.open("rb") as file:
            file.seek(block.offset)
            data = file.read(block.size_bytes)
    except OSError as error:
        raise Damaged(problem_of(path, error)) from None
    if len(data) != block.size_bytes or sha256_of(data) != block.sha256:
        raise Damaged(f"{path.name} is damaged at byte {block.offset}")
    return lines_of(data, block, path)


def lines_of(data: bytes, block: Block, path: Path) -> list[JsonObject]:
    """Return the lines in the compressed bytes of a block."""
    try:
        text = zstandard.ZstdDecompressor().decompress(data, max_output_size=block.text_bytes)
        found: list[Any] = [orjson.loads(one) for one in text.splitlines()]
    except (zstandard.ZstdError, orjson.JSONDecodeError):
        raise Damaged(f"{path.name} cannot be decompressed at byte {block.offset}") from None
    if len(text) != block.text_bytes or len(found) != block.lines:
        raise Damaged(f"{path.name} has different lines than its manifest says, at byte {block.offset}")
    return found


def file_sha256(path: Path) -> str:
    """Return the hash of a complete file, read in parts.

    Raises:
        Damaged: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(READ_BYTES):
                digest.update(part)
    except OSError as error:
        raise Damaged(problem_of(path, error)) from None
    return digest.hexdigest()


def problem_of(path: Path, error: OSError) -> str:
    """Return why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path.name} is missing"
    return f"{path.name} cannot be read ({error.strerror or type(error).__name__})"

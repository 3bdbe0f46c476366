"""Writing the files of an archive; these functions block, so they run in threads."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

import zstandard

from app.errors import StartupError
from app.events.archive.form import Block, LineKind, Manifest, data_name, line, manifest_name, sha256_of
from app.events.tree_digest import EventsHash
from app.failpoints import failpoint
from app.kit.json_limits import JsonObject
from app.kit.json_values import clean_json
from app.kit.times import iso_milliseconds

BLOCK_BYTES = 256 * 1024
LEVEL = 3
"""The compression level: higher ones take several times as long and save a few percent."""
LOCK_NAME = ".lock"


class ArchiveBusy(StartupError):
    """Another process on the same `DATA_DIR` is archiving."""


@contextmanager
def locked(directory: Path) -> Generator[None]:
    """Keep other processes from writing into the directory of archives.

    Raises:
        ArchiveBusy: another process writes into it.
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveBusy(f"Another process is archiving into {directory}.") from None
        yield


def temporary(path: Path) -> Path:
    """Return the name under which a file is written before it is complete."""
    return path.with_name(f".{path.name}.tmp")


class ArchiveWriter:
    """The archive of one tree while it is written, under temporary names until it is complete."""

    def __init__(self, folder: Path, root_id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root_id = root_id
        self.data_path = folder / data_name(root_id)
        self.manifest_path = folder / manifest_name(root_id)
        self.counts = dict.fromkeys(LineKind, 0)
        self.hash = EventsHash()
        self._file: IO[bytes] = temporary(self.data_path).open("wb")
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._blocks: list[Block] = []
        self._kind = LineKind.EXECUTION
        self._lines: list[bytes] = []
        self._text_bytes = 0
        self._seqs: list[int] = []

    def add_document(self, kind: LineKind, raw: JsonObject) -> None:
        """Add an execution or an approval as it is stored."""
        document = {
            name: iso_milliseconds(value) if isinstance(value, datetime) else clean_json(value)
            for name, value in raw.items()
        }
        named = {"executionId": raw["executionId"]} if kind is LineKind.EXECUTION else {}
        self._add(kind, line(kind, **named, document=document))

    def add_events(self, rows: list[JsonObject]) -> None:
        """Add rows of the tree, each `{"of", "event"}`, in the order of their numbers.

        Raises:
            TypeError: an event has a value that JSON cannot represent.
            EventUnreadable: an event has no canonical form.
        """
        for row in rows:
            self.hash.add(row["event"])
            text = line(LineKind.EVENT, of=row["of"], event=row["event"])
            self._add(LineKind.EVENT, text, int(row["event"]["seq"]))

    def add_payload(self, seq: int, sha256: str, text: bytes) -> None:
        """Add the complete JSON of a truncated event."""
        self._add(LineKind.PAYLOAD, line(LineKind.PAYLOAD, seq=seq, sha256=sha256, text=text.decode()), seq)

    def add_prompt(self, sha256: str, messages: object) -> None:
        """Add a prompt that was kept."""
        self._add(LineKind.PROMPT, line(LineKind.PROMPT, sha256=sha256, messages=clean_json(messages)))

    def finish(self, completed_at: datetime, last_seq: int) -> tuple[Manifest, str]:
        """Make both files durable under their names; return the manifest and the hash of its file.

        Raises:
            OSError: a file cannot be written.
        """
        self._end_block()
        make_durable(self._file)
        self._file.close()
        manifest = Manifest(
            root_execution_id=self.root_id,
            file=self.data_path.name,
            size_bytes=self._size,
            sha256=self._sha256.hexdigest(),
            completed_at=iso_milliseconds(completed_at),
            last_seq=last_seq,
            counts=self.counts,
            events_sha256=self.hash.hexdigest(),
            blocks=tuple(self._blocks),
        )
        encoded = manifest.encoded()
        with temporary(self.manifest_path).open("wb") as file:
            file.write(encoded)
            make_durable(file)
        failpoint("after-archive-write")
        for path in (self.data_path, self.manifest_path):
            temporary(path).replace(path)
        sync_directory(self.data_path.parent)
        return manifest, sha256_of(encoded)

    def discard(self) -> None:
        """Remove what was written under temporary names."""
        with contextlib.suppress(OSError):
            self._file.close()
        remove_temporary(self.data_path, self.manifest_path)

    def _add(self, kind: LineKind, text: bytes, seq: int = 0) -> None:
        if kind is not self._kind or self._text_bytes >= BLOCK_BYTES:
            self._end_block()
        self._kind = kind
        self._lines.append(text)
        self._text_bytes += len(text)
        self._seqs.append(seq)
        self.counts[kind] += 1

    def _end_block(self) -> None:
        if not self._lines:
            return
        data = self._compressor.compress(b"".join(self._lines))
        self._file.write(data)
        self._sha256.update(data)
        block = Block(
            kind=self._kind,
            offset=self._size,
            size_bytes=len(data),
            text_bytes=self._text_bytes,
            sha256=sha256_of(data),
            lines=len(self._lines),
            first_seq=self._seqs[0],
            last_seq=self._seqs[-1],
        )
        self._blocks.append(block)
        self._size += len(data)
        self._lines, self._seqs, self._text_bytes = [], [], 0


def make_durable(file: IO[bytes]) -> None:
    """Write a file to its disk, and drop it from memory so that it is read back from there."""
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, and the directory's own name."""
    for path in (directory, directory.parent):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove_temporary(*paths: Path) -> None:
    """Remove the temporary files beside some files."""
    for path in paths:
        temporary(path).unlink(missing_ok=True)

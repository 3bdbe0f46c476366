"""Reads of archived trees, checked against the hashes in the database."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from app.events.archive.errors import ArchiveUnreadable
from app.events.archive.files import Damaged, ensure_present, file_sha256, read_block, read_manifest
from app.events.archive.form import MONTH, SAFE_ID, Block, LineKind, Manifest, data_name, manifest_name
from app.events.tree_digest import EventsHash
from app.kit.json_limits import JsonObject

MAX_KEPT_MANIFESTS = 64
DIRECTORY = "archive"
"""The directory of all archives under `DATA_DIR`."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Archives:
    """The archives under a directory; keeps the most recently read manifests."""

    directory: Path
    _manifests: OrderedDict[str, Manifest] = field(default_factory=OrderedDict[str, Manifest], repr=False)

    @classmethod
    def under(cls, data_dir: Path) -> "Archives":
        """Return the archives of a `DATA_DIR`."""
        return cls(data_dir / DIRECTORY)

    def find(self, raw: Mapping[str, Any]) -> "TreeArchive | None":
        """Return the archive that a stored document of a tree names; `None` if the tree is not archived."""
        if raw.get("archivedAt") is None:
            return None
        named: Any = raw.get("archive")
        fields: JsonObject = named if isinstance(named, dict) else {}
        root_id, month = str(raw.get("rootExecutionId")), str(fields.get("month"))
        return TreeArchive(self, root_id, month, str(fields.get("sha256")), str(fields.get("manifestSha256")))

    def remember(self, sha256: str, manifest: Manifest) -> None:
        """Keep a manifest that was checked against its hash."""
        self._manifests[sha256] = manifest
        while len(self._manifests) > MAX_KEPT_MANIFESTS:
            self._manifests.popitem(last=False)

    def remembered(self, sha256: str) -> Manifest | None:
        """Return a manifest that was read a short time ago."""
        return self._manifests.get(sha256)


@dataclass(frozen=True)
class TreeArchive:
    """The archive of one tree, as the database describes it: its month, and the hashes that were verified."""

    archives: Archives
    root_id: str
    month: str
    sha256: str
    manifest_sha256: str

    @property
    def data_path(self) -> Path:
        """The compressed file."""
        return self._folder / data_name(self.root_id)

    @property
    def manifest_path(self) -> Path:
        """The manifest."""
        return self._folder / manifest_name(self.root_id)

    @property
    def _folder(self) -> Path:
        if not SAFE_ID.fullmatch(self.root_id) or not MONTH.fullmatch(self.month):
            raise ArchiveUnreadable(self.root_id[:120], "the database names no file of an archive")
        return self.archives.directory / self.month

    async def manifest(self) -> Manifest:
        """Return the manifest, and check that the compressed file is there.

        Raises:
            ArchiveUnreadable: a file is missing, truncated or damaged.
        """
        known = self.archives.remembered(self.manifest_sha256)
        manifest = known or await self._in_thread(read_manifest, self.manifest_path, self.manifest_sha256)
        await self._in_thread(ensure_present, self.data_path, manifest)
        self.archives.remember(self.manifest_sha256, manifest)
        return manifest

    async def events(self, after: int, limit: int, of: str | None = None) -> AsyncGenerator[tuple[str, JsonObject]]:
        """Yield the stored events after a number, at most `limit`, each with its execution's id.

        With `of`, only those of one execution.

        Raises:
            ArchiveUnreadable: the archive is missing or damaged.
        """
        for block in (await self.manifest()).blocks:
            if block.kind is not LineKind.EVENT or block.last_seq <= after:
                continue
            for line in await self._lines(block):
                if line["event"]["seq"] <= after or of not in (None, line["of"]):
                    continue
                if limit <= 0:
                    return
                limit -= 1
                yield line["of"], line["event"]

    async def payload(self, seq: int, sha256: str) -> bytes | None:
        """Return the complete JSON of a truncated event, if the tree had it when it was archived."""
        async for line in self._find(LineKind.PAYLOAD, seq):
            if line["seq"] == seq and line["sha256"] == sha256:
                return str(line["text"]).encode()
        return None

    async def prompt(self, sha256: str) -> list[JsonObject] | None:
        """Return the messages of a prompt that was kept."""
        async for line in self._find(LineKind.PROMPT):
            if line["sha256"] == sha256:
                return line["messages"]
        return None

    async def document(self, execution_id: str) -> JsonObject | None:
        """Return an execution's document as it was archived, without its events."""
        async for line in self._find(LineKind.EXECUTION):
            if line["executionId"] == execution_id:
                return line["document"]
        return None

    async def is_readable(self) -> bool:
        """Return whether the files exist in their full size."""
        try:
            await self.manifest()
        except ArchiveUnreadable:
            return False
        return True

    async def verify(self) -> Manifest:
        """Read everything and check it against the manifest and the hashes in the database.

        Returns:
            The manifest; its `events_sha256` is the digest of the events that were read.

        Raises:
            ArchiveUnreadable: something is missing or differs.
        """
        manifest = await self._in_thread(read_manifest, self.manifest_path, self.manifest_sha256)
        await self._in_thread(verify_file, self.data_path, manifest, self.sha256)
        return manifest

    async def remove(self) -> None:
        """Remove both files; missing ones are not an error.

        Raises:
            OSError: a file cannot be removed.
        """
        await asyncio.to_thread(remove_files, [self.data_path, self.manifest_path])

    async def _find(self, kind: LineKind, seq: int = 0) -> AsyncGenerator[JsonObject]:
        for block in (await self.manifest()).blocks:
            if block.kind is kind and block.first_seq <= seq <= block.last_seq:
                for line in await self._lines(block):
                    yield line

    async def _lines(self, block: Block) -> list[JsonObject]:
        return await self._in_thread(read_block, self.data_path, block)

    async def _in_thread(
        self, work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except Damaged as damage:
            raise ArchiveUnreadable(self.root_id, str(damage)) from None


def verify_file(path: Path, manifest: Manifest, sha256: str) -> None:
    """Check a compressed file against its manifest: its hash, its lines, and the digest of its events.

    Raises:
        Damaged: something differs.
    """
    ensure_present(path, manifest)
    if sha256 != manifest.sha256 or file_sha256(path) != sha256:
        raise Damaged(f"{path.name} has changed since it was verified")
    digest = EventsHash()
    counts = dict.fromkeys(LineKind, 0)
    end = 0
    for block in manifest.blocks:
        if block.offset != end:
            raise Damaged(f"{path.name} has bytes that its manifest does not name, at byte {end}")
        lines = read_block(path, block)
        end = block.offset + block.size_bytes
        counts[block.kind] += len(lines)
        if any(line.get("type") != block.kind for line in lines):
            raise Damaged(f"{path.name} has a line of a different kind than its manifest says")
        if block.kind is LineKind.EVENT:
            for line in lines:
                digest.add(line["event"])
    if counts != dict.fromkeys(LineKind, 0) | manifest.counts or digest.hexdigest() != manifest.events_sha256:
        raise Damaged(f"{path.name} has different events than its manifest says")


def remove_files(paths: list[Path]) -> None:
    """Remove some files; missing ones are not an error."""
    for path in paths:
        path.unlink(missing_ok=True)

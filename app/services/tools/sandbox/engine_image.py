"""The memory image of an engine in which the prelude has already run.

The engine's own snapshots copy the whole memory three times for each call, two thirds of it zeros that a new engine has
anyway; a page that is never written costs nothing. Only workers import it: standard library and the engine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quickjs_rs import Context

PAGE_BYTES = 4096
GROWTH_BYTES = 64 * 1024
"""The page size of WebAssembly, in which memory grows."""
ZEROS = bytes(PAGE_BYTES)


def instance_of(context: Context) -> Any:  # noqa: ANN401 - the engine's own
    """Return the WebAssembly instance of a context: its `store`, memory `mem` and stack pointer `sp`."""
    return context._engine_ctx._inst  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - no public way


def exports_of(instance: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the engine's own
    """Return the functions of an instance that quickjs-rs calls, by name."""
    return instance._exports  # noqa: SLF001 - no public way


def replace_exports(instance: Any, exports: Mapping[str, Any]) -> None:  # noqa: ANN401 - the engine's own
    """Make quickjs-rs call other functions."""
    instance._exports = exports  # noqa: SLF001 - no public way


def memory_of(context: Context) -> bytes:
    """Return the complete memory of an engine."""
    instance = instance_of(context)
    return bytes(instance.mem.read(instance.store, 0, None))


@dataclass(frozen=True)
class EngineImage:
    """The changes that turn a new engine into the one that the image was taken of."""

    size: int
    stack_pointer: int
    spans: tuple[tuple[int, bytearray], ...]
    """Offsets and contents, without the pages that are zero in both engines."""

    @classmethod
    def taken(cls, context: Context, new: bytes) -> "EngineImage":
        """Return the image of an engine whose memory was `new` when it was made."""
        instance, memory = instance_of(context), memory_of(context)
        spans = tuple((start, bytearray(memory[start:end])) for start, end in used_spans(new, memory))
        return cls(len(memory), instance.sp.value(instance.store), spans)

    def write(self, context: Context) -> None:
        """Turn a new engine into the one of the image."""
        instance = instance_of(context)
        missing = self.size - instance.mem.data_len(instance.store)
        if missing > 0:
            instance.mem.grow(instance.store, missing // GROWTH_BYTES)
        for start, content in self.spans:
            instance.mem.write(instance.store, content, start)
        instance.sp.set_value(instance.store, self.stack_pointer)


def used_spans(new: bytes, memory: bytes) -> Iterator[tuple[int, int]]:
    """Yield the spans of pages that are not zero in either memory; adjacent pages are joined."""
    start = None
    for place in range(0, len(memory), PAGE_BYTES):
        page = slice(place, place + PAGE_BYTES)
        is_used = memory[page] != ZEROS or new[page] not in (ZEROS, b"")
        if is_used and start is None:
            start = place
        elif not is_used and start is not None:
            yield start, place
            start = None
    if start is not None:
        yield start, len(memory)

"""Calls into the engine's WebAssembly with types that are read once instead of at every call.

wasmtime-py reads a function's type at each call and checks every argument natively: 20 µs, of which the
call itself is a tenth, and one tool call makes about fifty. The engine's functions take and return numbers only, and
their types never change. Only workers import it: standard library and the engine, nothing else.
"""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import wasmtime
from wasmtime import _ffi as untyped_bindings
from wasmtime._func import enter_wasm

bindings: Any = untyped_bindings
NUMBERS = {
    str(wasmtime.ValType.i32()): ("i32", bindings.WASMTIME_I32.value),
    str(wasmtime.ValType.i64()): ("i64", bindings.WASMTIME_I64.value),
    str(wasmtime.ValType.f32()): ("f32", bindings.WASMTIME_F32.value),
    str(wasmtime.ValType.f64()): ("f64", bindings.WASMTIME_F64.value),
}
"""The number types: the member of wasmtime's union for each, and its tag."""


@dataclass(frozen=True)
class Signature:
    """The types of a function whose parameters and results are numbers."""

    parameters: tuple[tuple[str, int], ...]
    results: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, function: wasmtime.Func, store: wasmtime.Store) -> "Signature | None":
        """Return the signature of a function; `None` if it uses other types or returns more than one value."""
        kind = function.type(store)
        try:
            parameters = tuple(NUMBERS[str(item)] for item in kind.params)
            results = tuple(NUMBERS[str(item)] for item in kind.results)
        except KeyError:
            return None
        return cls(parameters, results) if len(results) <= 1 else None


SIGNATURES: dict[str, Signature | None] = {}
"""Signatures by the name of the export: all engines are instances of one module."""


class TypedFunction:
    """An exported function that is called by its known signature."""

    __slots__ = ("_function", "_signature")

    def __init__(self, function: wasmtime.Func, signature: Signature) -> None:
        self._function: Any = function._func  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public way
        self._signature = signature

    def __call__(self, store: Any, *arguments: float) -> Any:  # noqa: ANN401 - wasmtime's
        """Call it, as `wasmtime.Func` does.

        Raises:
            Trap: the code trapped.
            WasmtimeError: the call failed.
        """
        signature = self._signature
        given = (bindings.wasmtime_val_t * len(signature.parameters))()
        for slot, (member, tag), argument in zip(given, signature.parameters, arguments, strict=True):
            slot.kind = tag
            setattr(slot.of, member, argument)
        results = (bindings.wasmtime_val_t * len(signature.results))()
        with enter_wasm(store) as trap:
            error = bindings.wasmtime_func_call(
                store._context(),  # noqa: SLF001 - as above
                ctypes.byref(self._function),
                given,
                len(given),
                results,
                len(results),
                trap,
            )
            if error:
                raise wasmtime.WasmtimeError._from_ptr(error)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return getattr(results[0].of, signature.results[0][0]) if signature.results else None


class CountedFunction:
    """A function that returns a count, and keeps the last one."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        self.last = 0

    def __call__(self, *arguments: Any) -> int:  # noqa: ANN401 - any arguments
        """Call it."""
        self.last = self._function(*arguments)
        return self.last


def typed_exports(exports: Mapping[str, Any], store: wasmtime.Store) -> dict[str, Any]:
    """Return an instance's exports with fast calls."""
    return {name: typed_export(name, export, store) for name, export in exports.items()}


def typed_export(name: str, export: Any, store: wasmtime.Store) -> Any:  # noqa: ANN401 - any kind of export
    """One export; anything but a function of numbers is unchanged."""
    if not isinstance(export, wasmtime.Func):
        return export
    if name not in SIGNATURES:
        SIGNATURES[name] = Signature.of(export, store)
    signature = SIGNATURES[name]
    return export if signature is None else TypedFunction(export, signature)

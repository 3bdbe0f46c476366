"""Calls into the engine's WebAssembly whose types are read once, not at every call.

wasmtime-py asks for a function's type at each call and compares every argument with it natively: 20 µs, of which the
call itself is a tenth, and one call of a tool makes four dozen. The engine's functions take and give numbers only, and
their types never change. Imported by the worker process alone: standard library and the engine, nothing else.
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
"""The kinds of numbers: the member of wasmtime's union that holds one, and the tag beside it."""


@dataclass(frozen=True)
class Signature:
    """The types of a function whose parameters and results are numbers."""

    parameters: tuple[tuple[str, int], ...]
    results: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, function: wasmtime.Func, store: wasmtime.Store) -> "Signature | None":
        """The signature of a function; `None` where it is not about numbers, or gives more than one."""
        kind = function.type(store)
        try:
            parameters = tuple(NUMBERS[str(one)] for one in kind.params)
            results = tuple(NUMBERS[str(one)] for one in kind.results)
        except KeyError:
            return None
        return cls(parameters, results) if len(results) <= 1 else None


SIGNATURES: dict[str, Signature | None] = {}
"""By the name of the export: all engines are instances of one module."""


class TypedFunction:
    """An exported function that is called by its known signature."""

    __slots__ = ("_function", "_signature")

    def __init__(self, function: wasmtime.Func, signature: Signature) -> None:
        self._function: Any = function._func  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no other way in
        self._signature = signature

    def __call__(self, store: Any, *arguments: float) -> Any:  # noqa: ANN401 - wasmtime's
        """Call it, as `wasmtime.Func` does.

        Raises:
            Trap: the code ran into a trap.
            WasmtimeError: the call could not be made.
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
    """A function that gives a count; the one it gave last is kept."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        self.last = 0

    def __call__(self, *arguments: Any) -> int:  # noqa: ANN401 - whatever the function takes
        """Call it."""
        self.last = self._function(*arguments)
        return self.last


def typed_exports(exports: Mapping[str, Any], store: wasmtime.Store) -> dict[str, Any]:
    """An instance's exports with its functions made quick to call."""
    return {name: typed_export(name, export, store) for name, export in exports.items()}


def typed_export(name: str, export: Any, store: wasmtime.Store) -> Any:  # noqa: ANN401 - any kind of export
    """One export; what is not a function of numbers stays as it is."""
    if not isinstance(export, wasmtime.Func):
        return export
    if name not in SIGNATURES:
        SIGNATURES[name] = Signature.of(export, store)
    signature = SIGNATURES[name]
    return export if signature is None else TypedFunction(export, signature)

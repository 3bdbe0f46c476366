"""The fast start and calls of an engine give the same results as quickjs-rs's own slow ones."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import wasmtime
from quickjs_rs import Context, Runtime

from app.services.tools.sandbox import engine as engine_module
from app.services.tools.sandbox.engine import Engine, EngineLimits, make_image
from app.services.tools.sandbox.engine_calls import SIGNATURES, TypedFunction, typed_exports
from app.services.tools.sandbox.engine_image import PAGE_BYTES, EngineImage, instance_of, memory_of, used_spans
from app.services.tools.sandbox.protocol import encode_request

LIMITS = EngineLimits(timeout_seconds=10, memory_bytes=32 * 1024 * 1024)


@pytest.fixture
def context() -> Iterator[Context]:
    with Runtime(memory_limit=LIMITS.memory_bytes) as runtime, runtime.new_context(timeout=10) as context:
        yield context


@pytest.fixture
def other_context() -> Iterator[Context]:
    with Runtime(memory_limit=LIMITS.memory_bytes) as runtime, runtime.new_context(timeout=10) as context:
        yield context


def test_an_engine_made_from_an_image_holds_byte_for_byte_what_the_first_one_held(
    context: Context, other_context: Context
) -> None:
    new = memory_of(context)
    context.eval("globalThis.kept = { text: 'x'.repeat(300000), grow: (by) => kept.count += by, count: 40 }; null")
    image = EngineImage.taken(context, new)

    image.write(other_context)

    assert memory_of(other_context) == memory_of(context)
    assert instance_of(other_context).sp.value(instance_of(other_context).store) == image.stack_pointer
    assert other_context.eval("[kept.grow(2), kept.text.length].join()") == "42,300000"


def test_an_image_leaves_out_what_is_zero_in_a_new_engine_too(context: Context) -> None:
    new = memory_of(context)
    context.eval("globalThis.kept = [1, 2, 3]; null")
    image = EngineImage.taken(context, new)

    written = sum(len(content) for _, content in image.spans)

    assert 0 < written < image.size / 2


@pytest.mark.parametrize(
    ("new", "memory", "spans"),
    [
        ("00", "00", []),
        ("00", "01", [(1, 2)]),
        ("10", "00", [(0, 1)]),  # what a new engine holds and this one does not has to be wiped
        ("1", "1011", [(0, 1), (2, 4)]),
        ("0", "0110", [(1, 3)]),
    ],
)
def test_the_pages_that_either_memory_uses_are_joined(new: str, memory: str, spans: list[tuple[int, int]]) -> None:
    pages = [b"".join(bytes([int(digit)]) * PAGE_BYTES for digit in digits) for digits in (new, memory)]

    assert list(used_spans(*pages)) == [(start * PAGE_BYTES, end * PAGE_BYTES) for start, end in spans]


def test_every_function_of_the_engine_is_called_by_its_known_signature(context: Context) -> None:
    instance = instance_of(context)

    typed = typed_exports(instance._exports, instance.store)

    functions = {name for name, export in instance._exports.items() if isinstance(export, wasmtime.Func)}
    assert len(functions) > 30
    assert {name for name, export in typed.items() if isinstance(export, TypedFunction)} == functions
    assert None not in SIGNATURES.values()


def test_a_typed_function_answers_and_refuses_as_the_plain_one_does(context: Context) -> None:
    instance = instance_of(context)
    plain = instance._exports["qjs_alloc"]
    typed = typed_exports(instance._exports, instance.store)["qjs_alloc"]

    first, second = plain(instance.store, 64), typed(instance.store, 64)

    assert isinstance(second, int)
    assert second - first >= 64, "memory of its own, behind the first"
    with pytest.raises(ValueError, match="shorter"):
        typed(instance.store)
    with pytest.raises(wasmtime.Trap):
        typed_exports(instance._exports, instance.store)["qjs_free"](instance.store, -8, 64)


def test_engines_of_one_image_share_nothing_but_it() -> None:
    image = make_image(LIMITS)
    loop = asyncio.new_event_loop()
    code = "(input) => { const seen = globalThis.mark ?? 0; globalThis.mark = input.mark; return seen; }"

    def call(mark: int) -> object:
        request = encode_request({"code": code, "input": {"mark": mark}, "context": {}, "checkOnly": False})
        engine = Engine.prepare(image, LIMITS)
        try:
            return engine.invoke(request.decode(), None, loop).get("output")  # pyright: ignore[reportArgumentType]
        finally:
            engine.close()

    assert [call(1), call(2), call(3)] == ["0", "0", "0"]
    loop.close()


def test_a_queue_is_empty_when_nothing_ran_however_quick_that_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "time", SimpleNamespace(monotonic=lambda: 0.0))  # no go takes any time
    loop = asyncio.new_event_loop()
    code = """() => new Promise((end) => {
      let i = 0;
      const again = () => (++i < 250000 ? queueMicrotask(again) : end(i));
      again();
    })"""
    request = encode_request({"code": code, "input": None, "context": {}, "checkOnly": False})
    engine = Engine.prepare(make_image(LIMITS), LIMITS)

    reply = engine.invoke(request.decode(), None, loop)  # pyright: ignore[reportArgumentType] - it waits for nothing

    engine.close()
    loop.close()
    assert reply.get("output") == "250000"

"""The inputs of a tool, its results, and the errors of its failures."""

import asyncio
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox
from tests.fixtures.sandboxes import CONTEXT, Call, Fail

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**53), max_value=2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON_VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.mark.parametrize(
    "code",
    [
        "({ a }, context) => a + 1",
        "async ({ a }) => a + 1",
        "function (input) { return input.a + 1 }",
        "async function named(input) { await null; return input.a + 1 }",
        "\n// adds one\ninput => input.a + 1; // done\n",
        "input => help(input.a);\nfunction help(n) { return n + 1 }\n",
        "input => Promise.resolve({ then(resolve) { resolve(input.a + 1) } })",
    ],
)
async def test_every_form_of_function_is_a_tool(call: Call, code: str) -> None:
    assert await call(code, {"a": 1}) == 2


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(value=JSON_VALUES)
async def test_any_json_value_goes_in_and_out_unchanged(sandbox: ToolSandbox, value: JsonValue) -> None:
    outcome = await sandbox.run(ToolInvocation("async input => input", value, {}))

    assert outcome.output == value


async def test_arguments_are_data_and_never_code(call: Call) -> None:
    tricky = [
        "`${1}`",
        "');throw 1;('",
        '"\\"',
        "\u2028",
        "</script>",
        "*/",
        "\\",
        "{{x}}",
        "😀",
        "__proto__",
    ]

    assert await call("input => input", {text: text for text in tricky}) == {text: text for text in tricky}


async def test_a_tool_sees_its_context(call: Call) -> None:
    assert await call("(input, context) => context") == CONTEXT


@pytest.mark.parametrize("code", ["() => {}", "async () => undefined", "() => null", "() => NaN"])
async def test_nothing_is_null(call: Call, code: str) -> None:
    assert await call(code) is None


async def test_numbers_past_exact_integers_come_back_as_floats(call: Call) -> None:
    output = await call("() => [2 ** 53, 2 ** 60, 1e300]")

    assert output == [2**53, 2.0**60, 1e300]
    assert [type(number) for number in output] == [int, float, float] if isinstance(output, list) else False


async def test_half_a_character_becomes_one_that_can_be_stored(call: Call) -> None:
    assert await call("() => ['\\ud83d', '\\\\ud83d', '😀', '\\udc00\\ud83d']") == [
        "\ufffd",
        "\\ud83d",
        "😀",
        "\ufffd\ufffd",
    ]


async def test_an_outcome_has_its_duration_and_the_tools_log(sandbox: ToolSandbox) -> None:
    code = "() => { console.log('count', 2, { a: [1] }); console.error(new Map().size, undefined, 1n, Symbol('s')) }"

    outcome = await sandbox.run(ToolInvocation(code, None, {}))

    assert outcome.console == ['count 2 {"a":[1]}', "0 undefined [not printable] Symbol(s)"]
    assert 0 < outcome.duration_ms < 10_000


@pytest.mark.parametrize(
    ("statement", "lines"),
    [
        ("console.log('%s is %d, %i, %f: %j%%', 'a', '1.5', '1.5', '1.5', { b: 1 }, 'rest')",
         ['a is 1.5, 1, 1.5: {"b":1}% rest']),
        ("console.log('100%', '%s', 1); console.log('%s')", ["100% %s 1", "%s"]),
        ("for (const name of ['info', 'warn', 'debug', 'trace', 'dir', 'table', 'group']) console[name](name)",
         ["info", "warn", "debug", "trace", "dir", "table", "group"]),
        ("console.assert(1, 'a'); console.assert(0, 'b %s', 'c'); console.assert(0, 7)",
         ["Assertion failed: b c", "Assertion failed 7"]),
        ("console.count(); console.count('x'); console.count(); console.countReset(); console.count()",
         ["default: 1", "x: 1", "default: 2", "default: 1"]),
        ("console.time('t'); console.timeEnd('t'); console.groupEnd(); console.clear()", ["t: 0 ms"]),
    ],
)  # fmt: skip
async def test_the_console_api_works_as_authors_expect(sandbox: ToolSandbox, statement: str, lines: list[str]) -> None:
    outcome = await sandbox.run(ToolInvocation(f"() => {{ {statement} }}", None, {}))

    assert [re.sub(r"\d+ ms", "0 ms", line) for line in outcome.console] == lines


async def test_the_log_is_cut_at_eight_kibibytes(sandbox: ToolSandbox) -> None:
    code = "() => { for (let i = 0; i < 100; i++) console.log('x'.repeat(1000)) }"

    outcome = await sandbox.run(ToolInvocation(code, None, {}))

    assert 8000 < sum(map(len, outcome.console)) <= 8 * 1024


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("() => { throw new TypeError('no text') }", "TypeError: no text"),
        ("async () => { await null; throw new RangeError('late') }", "RangeError: late"),
        ("() => { throw 'plain' }", "plain"),
        ("() => { throw 42 }", "42"),
        ("() => { throw null }", "null"),
        ("() => { throw { code: 7 } }", '{"code":7}'),
        ("() => missing", "ReferenceError: missing is not defined"),
        ("() => { throw { get message() { throw 1 } } }", "[not printable]"),
    ],
)
async def test_a_thrown_value_is_reported_by_name_and_message(fail: Fail, code: str, message: str) -> None:
    failure = await fail(code)

    assert (failure.code, failure.message) == ("tool-error", message)


async def test_a_long_message_is_cut(fail: Fail) -> None:
    failure = await fail("() => { throw new Error('x'.repeat(1e6)) }")

    assert len(failure.message) < 3000


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("(input) => {\n  let x = ;\n  return x\n}", "Line 2: "),
        ("() => {", "Line 1: "),
        ("() =>\n\n\n'", "Line 4: "),
        ("'\ud800", "Line 1: "),
    ],
)
async def test_checking_names_the_line_that_is_wrong(sandbox: ToolSandbox, code: str, line: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        await sandbox.check(code)

    assert caught.value.code == "tool-syntax-error"
    assert caught.value.message.startswith(line)


@pytest.mark.parametrize("code", ["1", "({})", "() => 1, 2", "undefined"])
async def test_checking_rejects_code_that_is_not_a_function(sandbox: ToolSandbox, code: str) -> None:
    with pytest.raises(ToolFailed, match=r"tool-syntax-error: The code must be one function"):
        await sandbox.check(code)


async def test_checking_does_not_call_the_tool(sandbox: ToolSandbox) -> None:
    await sandbox.check("() => { for (;;) {} }")


async def test_running_code_that_does_not_compile_fails_like_checking_it(fail: Fail) -> None:
    assert (await fail("() => {")).code == "tool-syntax-error"


@pytest.mark.parametrize(
    "code",
    [
        "() => { const a = {}; a.a = a; return a }",
        "() => 1n",
        "() => () => 1",
        "() => Symbol('s')",
        "() => ({ toJSON() { throw new Error('no') } })",
        "() => ({ get a() { throw new Error('no') } })",
        "() => { let a = []; for (let i = 0; i < 100; i++) a = [a]; return a }",
    ],
)
async def test_a_result_that_is_not_json_is_reported_as_such(fail: Fail, code: str) -> None:
    assert (await fail(code)).code == "tool-result-invalid"


async def test_brackets_inside_texts_are_not_depth(call: Call) -> None:
    assert await call("() => ['['.repeat(500), '\"['.repeat(500)]") == ["[" * 500, '"[' * 500]


async def test_a_result_of_256_kib_passes_and_one_byte_more_does_not(call: Call, fail: Fail) -> None:
    assert await call("() => 'x'.repeat(256 * 1024 - 2)") == "x" * (256 * 1024 - 2)
    assert (await fail("() => 'x'.repeat(256 * 1024 - 1)")).code == "tool-output-too-large"
    assert (await fail("() => 'é'.repeat(128 * 1024 - 1) + 'x'")).code == "tool-output-too-large"


async def test_an_input_that_is_not_json_never_reaches_a_tool(fail: Fail) -> None:
    assert (await fail("input => input", float("nan"))).code == "tool-input-invalid"
    assert (await fail("input => input", "x" * 5_000_000)).code == "tool-input-invalid"


async def test_twenty_calls_at_once_through_two_workers_each_get_their_own_answer(call: Call) -> None:
    outputs = await asyncio.gather(*(call("async input => { await null; return input }", n) for n in range(20)))

    assert outputs == list(range(20))


async def test_a_warm_call_takes_milliseconds(call: Call) -> None:
    durations: list[float] = []
    for _ in range(50):
        started = time.perf_counter()
        await call("input => input", {"a": 1})
        durations.append(time.perf_counter() - started)

    assert sorted(durations)[len(durations) // 2] < 0.05

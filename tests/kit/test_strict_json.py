"""Reading strict JSON takes time in proportion to the text, whatever its shape, and names what is wrong by its path."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import MAX_PROBLEMS, FieldError, InvalidInput
from app.kit.json_limits import MAX_VALUES
from app.kit.strict_json import (
    CONTAINERS,
    MAX_VALUES_AT_ONCE,
    STRING,
    MalformedJson,
    are_storable,
    count_marks,
    has_too_many_values,
    parse_json,
    parse_json_bytes,
    problem_with,
)
from tests.fixtures.json_strategies import json_values

MEBIBYTE = 1024 * 1024
DOUBLINGS = 2
SECONDS_A_CHARACTER = 2e-5
"""Ten times what it takes, for coverage and busy machines; a quadratic reader takes a hundred times as long."""
NOTICEABLE_SECONDS = 5e-3
"""Shorter times do not count: the careful count of values begins at a size that differs from shape to shape."""

SHAPES: dict[str, Callable[[int], str]] = {
    "many numbers": lambda size: "[" + ",".join(["0"] * (size // 2)) + "]",
    "many floats": lambda size: "[" + ",".join(["1.5"] * (size // 4)) + "]",
    "many empty texts": lambda size: "[" + ",".join(['""'] * (size // 3)) + "]",
    "many empty lists": lambda size: "[" + ",".join(["[]"] * (size // 3)) + "]",
    "many empty objects": lambda size: "[" + ",".join(["{}"] * (size // 3)) + "]",
    "many deep lists": lambda size: "[" + ",".join(["[" * 30 + "]" * 30] * (size // 61)) + "]",
    "lists deeper than allowed": lambda size: "[" + ",".join(["[" * 40 + "]" * 40] * (size // 81)) + "]",
    "one endless nesting": lambda size: "[" * size,
    "many different keys": lambda size: "{" + ",".join(f'"{n:06x}":0' for n in range(size // 11)) + "}",
    "many keys, one of them twice": lambda size: (
        "{" + ",".join(f'"{n:06x}":0' for n in range(size // 11)) + ',"000000":1}'
    ),
    "every key twice": lambda size: "{" + ",".join(f'"{n // 2:06x}":0' for n in range(size // 11)) + "}",
    "one key always": lambda size: "{" + ",".join(['"":0'] * (size // 5)) + "}",
    "many objects with a key twice": lambda size: "[" + ",".join(['{"a":0,"a":0}'] * (size // 14)) + "]",
    "a long key over many values": lambda size: '{"' + "k" * (size // 2) + '":[' + ",".join(["0"] * (size // 4)) + "]}",
    "long keys over bad values": lambda size: '{"' + "k" * (size // 2) + '":[' + "NaN," * (size // 8) + "0]}",
    "a long text": lambda size: '"' + "x" * size + '"',
    "a long text of escapes": lambda size: '"' + "\\u00e9" * (size // 6) + '"',
    "many lone surrogates": lambda size: "[" + ",".join(['"\\ud800"'] * (size // 9)) + "]",
    "many NULs in keys": lambda size: "{" + ",".join(f'"{n:06x}\\u0000":0' for n in range(size // 17)) + "}",
    "an integer of many digits": lambda size: "1" * size,
    "many integers of many digits": lambda size: "[" + ",".join(["1" * 4000] * (size // 4001)) + "]",
    "a float of many digits": lambda size: "0." + "1" * size,
    "brackets in a text": lambda size: '"' + '[{\\"' * (size // 4) + '"',
    "a long text of escaped quotes and brackets that does not end": lambda size: (
        '["' + ('\\"' + "[" * 18) * (size // 20)
    ),
    "many texts of brackets": lambda size: "[" + ",".join([f'"{"[" * 18}"'] * (size // 21)) + "]",
    "a text that does not end": lambda size: '["' + "x" * size,
}


@contextmanager
def without_collections() -> Generator[None]:
    """Keep the garbage collector, whose passes depend on everything else in the process, out of a measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds_for(text: str) -> float:
    """The processor time that a text takes, the least of several tries."""
    times: list[float] = []
    for _ in range(2):
        begun = time.thread_time()
        with suppress(InvalidInput, MalformedJson):
            parse_json(text)
        times.append(time.thread_time() - begun)
    return min(times)


@pytest.mark.parametrize("smallest", [MEBIBYTE // 8, pytest.param(MEBIBYTE // 4, marks=pytest.mark.long)])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_twice_the_text_takes_about_twice_the_time(shape: Callable[[int], str], smallest: int) -> None:
    with without_collections():
        times = [seconds_for(shape(smallest << step)) for step in range(DOUBLINGS + 1)]

    doubled, single = ([max(time, NOTICEABLE_SECONDS) for time in part] for part in (times[1:], times[:-1]))
    assert statistics.geometric_mean(doubled) / statistics.geometric_mean(single) < 3.5, times
    assert times[-1] < MEBIBYTE * SECONDS_A_CHARACTER, times


@pytest.mark.slow
@given(
    width=st.integers(1, 400),
    depth=st.integers(1, 31),
    key=st.integers(1, 400),
    repeats=st.integers(1, 3),
    leaf=st.sampled_from(["0", "NaN", '"x"', '"\\ud800"', "1" * 60, "{}", '{"a":1,"a":2}', "1.5"]),
)
@settings(max_examples=15, deadline=None)
def test_parsing_time_per_character_is_bounded_for_any_body(
    width: int, depth: int, key: int, repeats: int, leaf: str
) -> None:
    member = f'"{"k" * key}":{leaf}'
    inner = "{" + ",".join([member] * repeats) + "}"
    text = '{"a":' * depth + "[" + ",".join([inner] * width) + "]" + "}" * depth
    text = text[: MEBIBYTE // 4]

    with without_collections():
        seconds = seconds_for(text)

    assert seconds < 0.02 + len(text) * SECONDS_A_CHARACTER


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, -2.5e3, true, null, "\\u00e9\\n"], "b": {"": {}}}',
        '{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}',
        '["\\ud800", NaN, -Infinity, 9007199254740993, 1e999]',
        f'[{"7" * 41}, "\\u0000"]',
        "[1, 2,]",
        '{"a" 1}',
        '["no end',
        "[1] 2",
        "[" * 40 + "]" * 40,
    ],
)
def test_a_wide_text_is_read_like_a_narrow_one(text: str) -> None:
    wide = f"[[{','.join('0' * (MAX_VALUES_AT_ONCE + 1))}], {text}]"
    narrow = f"[[0], {text}]"

    assert outcome_of(wide, len(wide) - len(narrow)) == outcome_of(narrow, 0)


def outcome_of(text: str, shift: int) -> object:
    """The second value of a text or its problems; columns are counted as if the text were shorter."""
    try:
        return parse_json(text)[1]
    except InvalidInput as error:
        return error.errors
    except MalformedJson as error:
        place, _, column = error.message.rpartition(" ")
        return f"{place} {int(column.rstrip('.')) - shift}"


@given(json_values())
@settings(deadline=None)
def test_the_strict_reader_agrees_with_other_readers(value: object) -> None:
    text = json.dumps(value)

    with suppress(InvalidInput):
        read = parse_json_bytes(text.encode())

        assert read == json.loads(text)
        json.dumps(read, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('{"a": {"b": [1, NaN]}}', [("a.b.1", "is NaN, an infinity, or a number beyond the range of doubles")]),
        ("1e999", [("body", "is NaN, an infinity, or a number beyond the range of doubles")]),
        ('{"a": 9007199254740993}', [("a", "is an integer beyond 2^53")]),
        ('{"a": -' + "9" * 5000 + "}", [("a", "is an integer beyond 2^53")]),
        ('{"a": 1, "b": {"c": 1, "d": 2, "c": 3, "d": 4}}', [("b.c", "is given twice"), ("b.d", "is given twice")]),
        ('{"a": "\\u0000"}', [("a", "contains a NUL character")]),
        ('{"a": ["\\udfff"]}', [("a.0", "contains half of a surrogate pair")]),
        ('{"a": {"b\\u0000": 1}}', [("a", "has a key that contains a NUL character")]),
        ("[" * 33 + "]" * 33, [(".".join(["0"] * 32), "is nested deeper than 32 levels")]),
        ("[" * 40_000, [("body", "is nested deeper than 32 levels")]),
        (
            '{"' + "k" * 450_000 + '": NaN}',
            [("k" * 100, "is NaN, an infinity, or a number beyond the range of doubles")],
        ),
    ],
)
def test_every_problem_is_named_by_its_path(text: str, problems: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_json(text)

    assert list(raised.value.errors) == [FieldError(*problem) for problem in problems]


@pytest.mark.parametrize(("unit", "allowed"), [("[]", 50_000), ("0", 100_000), ('{"a":0}', 50_000)])
def test_a_text_of_too_many_values_is_refused(unit: str, allowed: int) -> None:
    parse_json("[" + ",".join([unit] * allowed) + "]")

    with pytest.raises(InvalidInput) as raised:
        parse_json("[" + ",".join([unit] * (allowed + 1)) + "]")

    assert raised.value.errors == (FieldError("body", "has more than 100,000 values"),)


@pytest.mark.parametrize("text", [",[{", '\\",[', "\\\\"])
def test_marks_inside_texts_are_no_values(text: str) -> None:
    value = "[" + ",".join([f'"{text}"'] * 99_999) + "]"

    assert len(parse_json(value)) == 99_999


def test_at_most_fifty_problems_are_named() -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_json("[" + ",".join(["NaN"] * 10_000) + "]")

    assert len(raised.value.errors) == MAX_PROBLEMS


@pytest.mark.parametrize("text", ["", "{", "nothing", "[1,]", "'a'", '{"a" 1}', '"\n"'])
def test_invalid_json_is_malformed(text: str) -> None:
    with pytest.raises(MalformedJson):
        parse_json(text)


@pytest.mark.parametrize("member", ['"k":0', '"\\"":[]', '"a,b{":"],"', '"\\\\":{}'])
@pytest.mark.parametrize("beyond", [0, 1])
def test_values_are_counted_to_the_last_one_whatever_the_texts_between_them(member: str, beyond: int) -> None:
    text = "[" + ",".join(["{" + member + "}"] * 20_000)
    marks = MAX_VALUES - count_marks(STRING.sub("", text))
    text += ",0" * (marks + beyond) + "]"

    assert count_marks(STRING.sub("", text)) == MAX_VALUES + beyond
    assert has_too_many_values(text) == bool(beyond)


@given(st.lists(st.one_of(json_values(), st.floats(), st.text(st.characters()), st.integers(), st.just(2**53 + 1))))
def test_values_that_are_storable_together_are_so_one_by_one(values: list[object]) -> None:
    one_by_one = all(not isinstance(value, CONTAINERS) and problem_with(value) is None for value in values)
    plain = all(value.isascii() for value in values if isinstance(value, str))

    assert are_storable(values) == one_by_one if plain else not are_storable(values)

"""The data in an answer: where it is found, and that only data which matches its schema counts."""

import time

import pytest

from app.services.runs.outputs.answer_data import OutputSchema, OutputSchemaInvalid
from tests.fixtures.model_server import Json

BEATS: Json = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "beats": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    "required": ["title", "beats"],
    "additionalProperties": False,
}
GOOD = '{"title": "Light", "beats": ["Dark.", "Dawn."]}'
DATA = {"title": "Light", "beats": ["Dark.", "Dawn."]}


async def schema(value: object = BEATS) -> OutputSchema:
    """A compiled schema."""
    return await OutputSchema.compile(value, "ada-001")


@pytest.mark.parametrize(
    "text",
    [GOOD, f" \n{GOOD}\n", f"```json\n{GOOD}\n```", f"Here it is:\n```\n{GOOD}\n```\nEnjoy.", f"{{</think>{GOOD}"],
)
async def test_an_answer_that_is_json_or_has_one_block_of_it_has_data(text: str) -> None:
    reading = await (await schema()).read(text)

    assert (reading.value, reading.problems) == (DATA, ())


@pytest.mark.parametrize(
    "text",
    [f"I tried {GOOD} first.", f"```\n{GOOD}\n```\nor\n```\n{GOOD}\n```", f"{GOOD}{GOOD}", f"{GOOD} That is it."],
)
async def test_data_between_other_words_counts_only_in_the_answer_of_a_formatting_call(text: str) -> None:
    compiled = await schema()

    assert (await compiled.read(text)).problems
    assert (await compiled.read(text, searched=True)).value == DATA


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"title": "Light"}', "beats"),
        ('{"title": 1, "beats": ["a"]}', "title"),
        ('{"title": "Light", "beats": [2]}', "beats.0"),
        ('{"title": "Light", "title": "Dark", "beats": ["a"]}', "title"),
        ('{"title": "a\\u0000b", "beats": ["a"]}', "title"),
        ('{"title": "\\ud800", "beats": ["a"]}', "title"),
        ("[]", ""),
        ("Light.", ""),
        ("", ""),
    ],
)
async def test_each_problem_has_the_path_of_its_value_within_the_data(text: str, path: str) -> None:
    reading = await (await schema()).read(text, searched=True)

    assert reading.value is None
    assert reading.problems[0].path == path


@pytest.mark.parametrize(
    "text", ["NaN", "1e999", "9007199254740993", '"\\u0000"', '{"$ref": "a", "$id": "b"}', "[" * 99]
)
async def test_a_value_that_cannot_be_stored_as_it_is_never_counts(text: str) -> None:
    reading = await (await schema({})).read(text)

    assert reading.problems


@pytest.mark.parametrize(
    ("text", "value"), [("[1, 2]", [1, 2]), ('"a"', "a"), ("0", 0), ("null", None), ("false", False)]
)
async def test_data_can_be_any_json_value(text: str, value: object) -> None:
    reading = await (await schema({})).read(text)

    assert (reading.value, reading.problems) == (value, ())


async def test_an_answer_that_was_cut_off_has_no_data() -> None:
    reading = await (await schema()).read(GOOD, truncated=True)

    assert reading.value is None
    assert "cut off" in reading.problems[0].message


async def test_data_of_more_than_half_a_megabyte_is_refused() -> None:
    reading = await (await schema({})).read(f'"{"a" * 600_000}"')

    assert "more than 524288" in reading.problems[0].message


@pytest.mark.parametrize("value", [[], "text", {"type": "nonsense"}, {"$ref": "https://example.org/schema"}])
async def test_a_stored_value_that_is_not_a_schema_is_an_error_with_the_agents_name(value: object) -> None:
    with pytest.raises(OutputSchemaInvalid, match="ada-001"):
        await schema(value)


@pytest.mark.parametrize(
    "value", [{"$ref": "#"}, {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}]
)
async def test_a_schema_that_refers_to_itself_ends(value: object) -> None:
    reading = await (await schema(value)).read("{}")

    assert reading.value in ({}, None)


@pytest.mark.parametrize("unit", ["{", "[", "```\n", "```a\n", "` ```\n", '{"a":', "{}", "\\", '"'])
async def test_reading_takes_time_in_proportion_to_the_answer(unit: str) -> None:
    compiled = await schema()
    started = time.thread_time()

    await compiled.read(unit * (200_000 // len(unit)), searched=True)

    assert time.thread_time() - started < 1

"""JSON values that MongoDB, JavaScript and every client can hold."""

import json
from datetime import UTC, datetime

import bson
import orjson
import pytest
from hypothesis import given, settings
from pydantic import JsonValue

from app.kit.json_limits import MAX_STORED_NESTING
from app.kit.json_values import clean_json, clean_text
from tests.fixtures.json_strategies import json_values


@pytest.mark.parametrize(
    ("given_value", "cleaned"),
    [
        (None, None),
        (True, True),
        (1, 1),
        (1.5, 1.5),
        ("text", "text"),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        (2**53 - 1, 2**53 - 1),
        (2**53, float(2**53)),
        (-(2**70), -(2.0**70)),
        (10**400, None),
        (float("nan"), None),
        (float("-inf"), None),
        ("a\ud800b", "a?b"),
        ({"a\0b\ud800": 1}, {"ab?": 1}),
        ((1, 2), [1, 2]),
        ({1: "one"}, {"1": "one"}),
        ({"$ref": "c", "$id": 1, "x": 2}, {"$ref": "c", "_$id": 1, "x": 2}),
        ({"$ref": 7, "$id": 1}, {"$ref": 7, "$id": 1}),
        ({"$id": "https://example.org/schema"}, {"$id": "https://example.org/schema"}),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01 00:00:00+00:00"),
    ],
)
def test_a_value_becomes_what_both_json_and_bson_can_hold(given_value: object, cleaned: JsonValue) -> None:
    assert clean_json(given_value) == cleaned


def test_a_boolean_stays_one_and_does_not_become_a_number() -> None:
    assert clean_json([True, 1, 1.0]) == [True, 1, 1.0]
    assert [type(one) for one in clean_json([True, 1, 1.0])] == [bool, int, float]


def test_values_nested_too_deeply_become_text() -> None:
    value: JsonValue = "core"
    for _ in range(1000):
        value = [value]

    cleaned = clean_json(value)

    depth = 0
    while isinstance(cleaned, list):
        cleaned, depth = cleaned[0], depth + 1
    assert depth == MAX_STORED_NESTING
    assert isinstance(cleaned, str)
    assert cleaned.startswith("[[")


def test_keys_keep_their_order() -> None:
    assert list(clean_json({"b": 1, "$ref": "x", "a": 2, "$id": 3})) == ["b", "$ref", "a", "_$id"]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(json_values())
def test_a_cleaned_value_survives_mongodb_and_the_wire_unchanged(value: JsonValue) -> None:
    cleaned = clean_json({"value": value})

    stored = bson.decode(bson.encode(cleaned))

    assert orjson.dumps(stored) == orjson.dumps(cleaned)
    assert json.dumps(stored, allow_nan=False) == json.dumps(cleaned, allow_nan=False)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(json_values())
def test_cleaning_twice_changes_nothing_more(value: JsonValue) -> None:
    once = clean_json(value)

    assert json.dumps(clean_json(once)) == json.dumps(once)


@pytest.mark.parametrize("text", ["", "plain", "naïve 🎬", "\0", "\u2028"])
def test_text_that_utf_8_can_carry_is_not_touched(text: str) -> None:
    assert clean_text(text) == text

"""Tools' input schemas in the subsets that providers take."""

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kit.json_values import JsonObject
from app.services.llm.fitting.schemas import for_gemini, parameters_of, strict

TEXT: JsonObject = {"type": "string"}
NUMBER: JsonObject = {"type": "number"}


@pytest.mark.parametrize("schema", [{"type": "object"}, {}, None, {"properties": None}, {"type": ["object", "null"]}])
def test_an_object_without_properties_says_that_it_has_none(schema: object) -> None:
    parameters = parameters_of(schema)

    assert parameters is not None
    assert (parameters["type"], parameters["properties"]) == ("object", {})


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "array", "items": TEXT}, True, ["a"], "object"])
def test_a_schema_that_is_no_objects_has_no_form(schema: object) -> None:
    assert parameters_of(schema) is None


@pytest.mark.parametrize("word", ["anyOf", "oneOf"])
def test_alternatives_at_the_root_become_one_object_that_allows_each(word: str) -> None:
    branches = [
        {"type": "object", "properties": {"id": TEXT, "at": TEXT}, "required": ["id", "at"]},
        {"type": "object", "properties": {"id": NUMBER, "name": TEXT}, "required": ["id", "name"]},
    ]

    parameters = parameters_of({"type": "object", word: branches, "additionalProperties": False})

    assert parameters == {
        "type": "object",
        "properties": {"id": {"anyOf": [TEXT, NUMBER]}, "at": TEXT, "name": TEXT},
        "required": ["id"],
        "additionalProperties": False,
    }


def test_all_parts_at_the_root_are_demanded_together() -> None:
    parts = [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b"]}]

    parameters = parameters_of({"allOf": parts})

    assert parameters == {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"]}


@pytest.mark.parametrize("word", [{"enum": [{"a": "x"}]}, {"not": {"required": ["a"]}}, {"const": {"a": "x"}}])
def test_keywords_that_providers_refuse_at_the_root_are_validated_by_the_service(word: JsonObject) -> None:
    parameters = parameters_of({"type": "object", "properties": {"a": TEXT}, **word})

    assert parameters is not None
    assert parameters.keys() == {"type", "properties", "required"}


def test_a_reference_at_the_root_is_followed() -> None:
    schema = {"$ref": "#/$defs/Query", "$defs": {"Query": {"type": "object", "properties": {"q": TEXT}}}}

    assert parameters_of(schema) == {"type": "object", "properties": {"q": TEXT}}


def test_a_schema_that_leads_to_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "name": TEXT}}

    parameters = parameters_of({"$ref": "#/$defs/Node", "$defs": {"Node": node}})

    assert parameters is not None
    assert parameters["properties"] == {"next": {}, "name": TEXT}


def test_gemini_gets_its_own_words_alone() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "kind": {"const": "scene"},
            "title": {"type": ["string", "null"], "format": "uri"},
            "count": {"type": "integer", "exclusiveMinimum": 0},
            "tags": {"type": "array"},
            "when": {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}]},
            "ref": {"$ref": "#/$defs/Place"},
        },
        "$defs": {"Place": {"type": "object", "properties": {"enum": TEXT}}},
    }

    assert for_gemini(schema) == {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["scene"]},
            "title": {"type": "string", "nullable": True},
            "count": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}]},
            "ref": {"type": "object", "properties": {"enum": TEXT}},
        },
    }


def test_structured_output_gets_closed_objects_and_its_bounds_in_words() -> None:
    score = {"type": "number", "minimum": 0, "maximum": 1, "description": "How good."}
    schema = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {"s": score}}}
        },
    }

    form: Any = strict(schema)

    assert form["additionalProperties"] is False
    assert form["properties"]["rows"]["items"]["additionalProperties"] is False
    assert form["properties"]["rows"]["items"]["properties"]["s"] == {
        "type": "number",
        "description": "How good. (0 to 1)",
    }
    assert "minItems" not in form["properties"]["rows"]


@pytest.mark.parametrize("free", [{"type": "object"}, {"type": "object", "additionalProperties": TEXT}])
def test_an_object_with_names_of_its_own_choice_has_no_strict_form(free: JsonObject) -> None:
    assert strict({"type": "object", "properties": {"map": free}}) is None


NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.sampled_from([TEXT, NUMBER, {"type": "boolean"}, {"enum": ["x", 1]}])
CLOSED = st.fixed_dictionaries(
    {
        "type": st.just("object"),
        "properties": st.dictionaries(NAMES, LEAVES),
        "additionalProperties": st.just(False),
    }
)
OBJECTS = st.recursive(
    CLOSED,
    lambda inner: st.one_of(
        *(st.fixed_dictionaries({word: st.lists(inner, min_size=1, max_size=3)}) for word in ("anyOf", "oneOf"))
    ),
    max_leaves=6,
)
VALUES = st.dictionaries(NAMES, st.one_of(st.text(max_size=2), st.integers(), st.booleans()))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(schema=OBJECTS, value=VALUES)
def test_inputs_that_a_tool_allows_match_its_schema_for_the_model(schema: JsonObject, value: JsonObject) -> None:
    parameters = parameters_of(schema)

    assert parameters is not None
    assert not {"anyOf", "oneOf", "allOf", "enum", "not", "$ref"} & parameters.keys()
    if jsonschema_rs.is_valid(schema, value):
        assert jsonschema_rs.is_valid(parameters, value)

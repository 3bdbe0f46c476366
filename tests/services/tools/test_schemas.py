"""Input schemas: valid and refused ones, and their errors; external references are never fetched."""

import time
from pathlib import Path
from typing import Any

import pytest

from app.errors import FieldError
from app.services.tools.schema_weight import weigh_pattern, weigh_schema
from app.services.tools.schemas import InvalidSchema, compile_schema

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "tags": {"type": "array", "items": {"type": "object", "required": ["id"]}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def test_a_valid_input_has_no_errors() -> None:
    assert compile_schema(PERSON).errors({"name": "Ann", "tags": [{"id": 1}]}) == []


def test_errors_name_the_field_by_its_dotted_path() -> None:
    errors = compile_schema(PERSON).errors({"name": 1, "tags": [{"id": 1}, {}], "age": 3})

    assert {error.path for error in errors} == {"name", "tags.1.id", ""}
    assert FieldError("name", '1 is not of type "string"') in errors
    assert FieldError("tags.1.id", '"id" is a required property') in errors


def test_an_input_that_is_no_object_is_refused() -> None:
    assert [error.path for error in compile_schema(PERSON).errors([1])] == [""]


@pytest.mark.parametrize(
    "schema", [{}, {"type": "object"}, {"properties": {"a": True}}, {"$ref": "#/$defs/a", "$defs": {"a": {}}}]
)
def test_a_schema_of_an_object_compiles(schema: dict[str, Any]) -> None:
    assert compile_schema(schema).errors({}) == []


def test_draft_2020_12_is_the_default_and_draft_7_can_be_asked_for() -> None:
    pair: dict[str, Any] = {"properties": {"pair": {"items": [{"type": "string"}]}}}

    with pytest.raises(InvalidSchema):
        compile_schema(pair)
    older = compile_schema({"$schema": "http://json-schema.org/draft-07/schema#", **pair})

    assert [error.path for error in older.errors({"pair": [1]})] == ["pair.0"]


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "array"}, "type"),
        ({"type": ["object", "null"]}, "type"),
        ({"type": "objekt"}, "type"),
        ({"properties": {"a": {"type": "strin"}}}, "properties.a.type"),
        ({"properties": 5}, "properties"),
        ({"required": "name"}, "required"),
        ({"properties": {"a": {"pattern": "("}}}, "properties.a.pattern"),
        ({"$ref": "#/$defs/none"}, ""),
        ({"$schema": "https://example.com/mine"}, ""),
    ],
)
def test_an_invalid_tool_schema_is_refused_with_its_path(schema: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidSchema) as caught:
        compile_schema(schema)

    assert [error.path for error in caught.value.errors] == [path]


@pytest.mark.parametrize("base", [{}, {"$id": "http://127.0.0.1:9/tool.json"}])
def test_nothing_outside_the_schema_is_fetched(tmp_path: Path, base: dict[str, Any]) -> None:
    file = tmp_path / "types.json"
    file.write_text('{"type": "string"}')

    for reference in (file.as_uri(), str(file), "types.json", "http://127.0.0.1:9/types.json", "ftp://127.0.0.1/a"):
        for keyword in ("$ref", "$dynamicRef"):
            with pytest.raises(InvalidSchema):
                compile_schema({**base, "properties": {"a": {keyword: reference}}})


def test_a_schema_that_doubles_with_every_reference_is_refused() -> None:
    steps = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(60)}

    with pytest.raises(InvalidSchema, match="unfolds"):
        compile_schema({"$ref": "#/$defs/a0", "$defs": {**steps, "a60": {"required": ["x"]}}})


def test_a_schema_that_doubles_through_anchors_is_refused() -> None:
    steps = [{"$anchor": f"a{n}", "allOf": [{"$ref": f"#a{n + 1}"}] * 2} for n in range(30)]

    with pytest.raises(InvalidSchema, match="unfolds"):
        compile_schema({"$ref": "#a0", "$defs": {"all": {"anyOf": [*steps, {"$anchor": "a30"}]}}})


def test_a_schema_may_refer_to_itself() -> None:
    tree = compile_schema({"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}})

    assert tree.errors({"children": [{"children": []}]}) == []
    assert [error.path for error in tree.errors({"children": [{"children": 1}]})] == ["children.0.children"]


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}])
def test_a_reference_in_a_circle_does_no_harm(schema: dict[str, Any]) -> None:
    assert compile_schema(schema).errors({"a": 1}) == []


def test_a_schema_nested_a_thousand_levels_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(1000):
        schema = {"properties": {"a": schema}}

    with pytest.raises(InvalidSchema):
        compile_schema(schema)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(?=a)(a|a)*\\1b$", "(x+x+)+y", "(a{1,20}){1,20}b"])
def test_an_exploding_pattern_is_abandoned_at_once(pattern: str) -> None:
    validator = compile_schema({"properties": {"text": {"pattern": pattern}}})
    started = time.thread_time()

    errors = validator.errors({"text": "a" * 20_000 + "!"})

    assert time.thread_time() - started < 5
    assert [error.path for error in errors] == ["text"]


def test_a_large_invalid_input_is_reported_quickly_by_its_first_error() -> None:
    validator = compile_schema({"properties": {"all": {"items": {"type": "string"}}}})
    started = time.thread_time()

    errors = validator.errors({"all": [1] * 200_000})

    assert [error.path for error in errors] == ["all.0"]
    assert time.thread_time() - started < 5


def test_errors_and_their_messages_are_bounded() -> None:
    validator = compile_schema({"properties": {"all": {"items": {"type": "integer"}}}})

    errors = validator.errors({"all": ["x" * 1000] * 100})

    assert len(errors) == 20
    assert max(len(error.message) for error in errors) <= 301


def test_an_input_nested_too_deeply_is_an_error_and_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]

    errors = compile_schema({"properties": {"deep": {"uniqueItems": True, "const": 1}}}).errors({"deep": deep})

    assert len(errors) == 1


HEAVY: dict[str, dict[str, Any]] = {
    "many large patterns": {"properties": {f"a{n}": {"pattern": f"^(a{{1,90}}){{1,{n + 10}}}$"} for n in range(300)}},
    "many classes of Unicode": {
        "properties": {f"a{n}": {"pattern": f"^[\\p{{L}}]{{1,{n + 50}}}$", "title": "x" * 90} for n in range(300)}
    },
    "one pattern of patterns": {"pattern": "((a{1,50}){1,50}){1,50}"},
    "keys that are patterns": {"patternProperties": {f"^(a{{1,90}}){{1,{n + 10}}}$": {} for n in range(300)}},
    "one pattern behind many references": {
        "$defs": {"p": {"pattern": "^(a{1,50}){1,50}$"}},
        "allOf": [{"$ref": "#/$defs/p"}] * 300,
    },
    "a property named like data": {"properties": {"default": {"pattern": "((a{1,50}){1,50}){1,50}"}}},
    "many anchors that refer to one another": {
        "$defs": {f"a{n}": {"$anchor": f"a{n}", "$ref": f"#a{n + 1}"} for n in range(1500)},
        "$ref": "#a0",
    },
    "many values": {"enum": [{}] * 20_000},
    "a very long text": {"description": "x" * 5_000_000},
}


@pytest.mark.parametrize("schema", HEAVY.values(), ids=HEAVY)
def test_a_schema_that_is_too_heavy_is_refused_before_it_is_compiled(schema: dict[str, Any]) -> None:
    weigh_pattern.cache_clear()
    started = time.thread_time()

    with pytest.raises(InvalidSchema):
        weigh_schema(schema)

    assert time.thread_time() - started < 0.2


@pytest.mark.parametrize(
    "schema",
    [
        {"const": {"pattern": "("}},
        {"properties": {f"a{n}": {"pattern": f"^[a-z0-9-]{{1,{n}}}$"} for n in range(1, 64)}},
        {"properties": {"a": {"pattern": "^(?!x)[a-z]+$"}, "b": {"pattern": r"^\w{1,255}$"}}},
        {"properties": {"a": {"pattern": r"^[\p{L}\p{N} ]+$", "maxLength": 200}}},
    ],
)
def test_patterns_as_people_write_them_are_light(schema: dict[str, Any]) -> None:
    assert compile_schema(schema).errors({}) == [] or "const" in schema


def test_an_input_that_a_schema_makes_too_much_work_of_is_refused_unchecked() -> None:
    heavy = compile_schema({"properties": {"a": {"pattern": "^(a{1,90}){1,90}$"}}})
    looking = compile_schema({"properties": {"a": {"items": {"pattern": "^(?=a)(a|a)*\\1b$"}}}})
    wide = compile_schema({"properties": {"a": {"items": {"anyOf": [{"const": n} for n in range(3000)]}}}})

    for validator, value in ((heavy, "a" * 100_000), (looking, ["a" * 100] * 1000), (wide, [-1] * 10_000)):
        started = time.thread_time()
        [error] = validator.errors({"a": value})
        assert "too large to be checked" in error.message
        assert time.thread_time() - started < 5

    assert heavy.errors({"a": "aaa"}) == looking.errors({"a": []}) == wide.errors({"a": [7]}) == []

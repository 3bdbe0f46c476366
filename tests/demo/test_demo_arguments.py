"""The demo model's tool calls match the tools' schemas, and speak of the story."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from app.demo.model import answer
from app.kit.json_values import JsonObject

SEEDED_TOOLS = sorted((Path(__file__).parents[2] / "seeds" / "custom-tools").glob("*/tool.yaml"))
REQUESTS = {
    "lighthouse": "A lighthouse keeper discovers that the light guides something else. Develop a 100-page feature.",
    "short": "Two sisters inherit a house that remembers. Write a 7-page short film.",
    "epic": "An empire falls. 400 pages.",
    "empty": "",
}


def call_of(parameters: JsonObject, request: str = REQUESTS["lighthouse"]) -> JsonObject:
    tool = {"type": "function", "function": {"name": "someTool", "parameters": parameters}}
    turn = answer(purpose="work", messages=[{"role": "user", "content": request}], tools=[tool], schema=None)
    return json.loads(turn.tool_calls[0].arguments)


def problems_of(parameters: JsonObject, arguments: JsonObject) -> list[str]:
    return [error.message for error in jsonschema_rs.Draft202012Validator(parameters).iter_errors(arguments)]


@pytest.mark.parametrize("request_text", REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize("path", SEEDED_TOOLS, ids=lambda path: path.parent.name)
def test_calls_of_seeded_tools_match_their_schemas(path: Path, request_text: str) -> None:
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))["inputSchema"]

    arguments = call_of(parameters, request_text)

    assert problems_of(parameters, arguments) == []


SCHEMAS: dict[str, JsonObject] = {
    "nested": {
        "properties": {
            "film": {
                "type": "object",
                "properties": {
                    "cast": {"type": "array", "minItems": 2, "items": {"type": "object", "required": ["name", "age"]}},
                    "budget": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
                },
                "required": ["cast", "budget"],
            }
        },
        "required": ["film"],
    },
    "bounds": {
        "properties": {
            "pageCount": {"type": "integer", "minimum": 95, "maximum": 120},
            "tempo": {"type": "integer", "minimum": 90, "maximum": 92},
            "step": {"type": "number", "multipleOf": 0.25, "minimum": 1.1, "maximum": 3},
            "below": {"type": "integer", "maximum": -3},
            "fps": {"type": "integer", "enum": [25, 50]},
        },
        "required": ["pageCount", "tempo", "step", "below", "fps"],
    },
    "texts": {
        "properties": {
            "hex": {"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$"},
            "accent": {"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$"},
            "in": {"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}:[0-9]{2}:[0-9]{2}$"},
            "code": {"type": "string", "minLength": 3, "maxLength": 3},
            "long": {"type": "string", "minLength": 900},
            "text": {"type": "string", "maxLength": 40},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["hex", "accent", "in", "code", "long", "text", "day"],
    },
    "references": {
        "properties": {"palette": {"type": "array", "minItems": 3, "items": {"$ref": "#/$defs/swatch"}}},
        "required": ["palette"],
        "$defs": {
            "swatch": {
                "type": "object",
                "properties": {"hex": {"$ref": "#/$defs/hex"}, "role": {"enum": ["key", "fill"]}},
                "required": ["hex", "role"],
                "additionalProperties": False,
            },
            "hex": {"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$"},
        },
    },
    "choices": {
        "properties": {
            "mode": {"const": "fast"},
            "kind": {"oneOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "integer"}]},
            "maybe": {"type": ["null", "integer"], "minimum": 4},
            "both": {"allOf": [{"type": "object", "required": ["x"]}, {"properties": {"x": {"type": "boolean"}}}]},
            "tags": {"type": "array", "uniqueItems": True, "minItems": 3, "items": {"type": "string"}},
            "given": {"type": "string", "examples": ["as the author wrote it"]},
            "usual": {"type": "integer", "default": 17},
        },
        "required": ["mode", "kind", "maybe", "both", "tags", "given", "usual"],
    },
    "recursive": {
        "properties": {"tree": {"$ref": "#/$defs/node"}},
        "required": ["tree"],
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["children"],
            }
        },
    },
    "all optional": {"properties": {"alpha": {"type": "string"}, "beta": {"type": "number", "minimum": 5}}},
}


@pytest.mark.parametrize("parameters", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_calls_of_unknown_tools_match_their_schemas(parameters: JsonObject) -> None:
    parameters = {"type": "object", "additionalProperties": False, **parameters}

    arguments = call_of(parameters)

    assert arguments
    assert problems_of(parameters, arguments) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#"},
        {"properties": {"x": {"$ref": "#/properties/x"}}, "required": ["x"]},
        {"properties": {"x": {"$ref": "#"}, "y": {"$ref": "#"}, "z": {"$ref": "#"}}, "required": ["x", "y", "z"]},
        {"properties": {"x": {"type": "array", "minItems": 10**9}}, "required": ["x"]},
        {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
        {"properties": {"x": {"pattern": "(", "minLength": "three"}}, "required": ["x", 7]},
        {"properties": ["x"], "required": "x", "type": 5},
    ],
)
def test_a_schema_that_cannot_be_met_still_gives_a_call(parameters: JsonObject) -> None:
    assert isinstance(call_of(parameters), dict)  # and comes to an end


def test_a_dialogue_tool_is_given_dialogue() -> None:
    parameters: JsonObject = {"properties": {"screenplay": {"type": "string"}}, "required": ["screenplay"]}

    arguments = call_of(parameters)

    assert "AGNES: Ninety years of logs" in arguments["screenplay"]


def test_figures_of_the_request_reach_the_tool() -> None:
    parameters: JsonObject = {"properties": {"pages": {"type": "integer"}, "fps": {"type": "integer"}}}

    assert call_of(parameters) == {"pages": 100, "fps": 24}

"""Response formats: a schema in the provider's subset, JSON mode, or instructions in the prompt."""

import json

from app.kit.json_values import JsonObject
from app.services.llm.fitting.schemas import demands_all, strict
from app.services.llm.model_info.capabilities import AnswerForm, Capabilities, Wire

STRICT = frozenset({Wire.ANTHROPIC, Wire.OPENAI})
"""Providers that accept a subset of JSON Schema and refuse everything else."""


def fit_format(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments with a response format that the model accepts; the prompt asks for the rest."""
    asked = arguments.get("response_format")
    if asked is None:
        return arguments
    schema = (asked.get("json_schema") or {}).get("schema") if isinstance(asked, dict) else None
    if not isinstance(schema, dict):
        return without_format(arguments) if model.form == AnswerForm.WORDS else arguments
    if model.form == AnswerForm.SCHEMA:
        form = schema_format(asked, schema, model)
        if form is not None:
            return {**arguments, "response_format": form}
    worded = {**arguments, "messages": in_words(arguments["messages"], schema)}
    if model.form == AnswerForm.OBJECT:
        return {**worded, "response_format": {"type": "json_object"}}
    return without_format(worded)


def without_format(arguments: JsonObject) -> JsonObject:
    """Return the arguments without a response format."""
    return {name: value for name, value in arguments.items() if name != "response_format"}


def schema_format(asked: JsonObject, schema: JsonObject, model: Capabilities) -> JsonObject | None:
    """Return the format with the schema in the provider's subset; `None` if the subset cannot express it."""
    if model.wire not in STRICT:
        return asked
    subset = strict(schema)
    if subset is None and model.wire == Wire.ANTHROPIC:
        return None
    is_strict = subset is not None and (model.wire != Wire.OPENAI or demands_all(subset))
    named = {**asked["json_schema"], "schema": subset if is_strict else schema, "strict": is_strict}
    return {**asked, "json_schema": named}


def in_words(messages: list[JsonObject], schema: JsonObject) -> list[JsonObject]:
    """Return the messages with the schema in the instructions."""
    text = json.dumps(schema, ensure_ascii=False)
    words = f"Answer with one JSON object and nothing else. It has to match this JSON schema:\n{text}"
    first = messages[0] if messages else {}
    if first.get("role") == "system" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{words}"}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]

"""Asking a model for data: a strict JSON schema, validation, one repair."""

import json
from dataclasses import dataclass, replace
from typing import Any

import jsonschema_rs

from app.models.json_values import JsonObject
from app.services.llm.calls import ModelCaller, ModelRequest, TokenUsage, add_costs
from app.services.llm.errors import ModelCallFailed

MAX_PROBLEMS_SHOWN = 8


class AnswerSchema:
    """A named JSON schema that an answer must match."""

    def __init__(self, name: str, schema: JsonObject) -> None:
        self.response_format: JsonObject = {
            "type": "json_schema",
            "json_schema": {"name": name, "strict": True, "schema": schema},
        }
        self._validator = jsonschema_rs.Draft202012Validator(schema)

    def problems(self, value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
        """What is wrong with a value, a line each."""
        found = self._validator.iter_errors(value)
        return [f"{'.'.join(map(str, error.instance_path)) or 'answer'}: {error.message}" for error in found]


@dataclass(frozen=True)
class StructuredAnswer:
    """What the model gave: `value` is the last JSON object seen, `valid` whether it matches the schema."""

    value: JsonObject | None
    valid: bool
    problems: list[str]
    usage: TokenUsage
    cost_usd: float | None
    model: str
    text: str


async def ask_structured(models: ModelCaller, request: ModelRequest, schema: AnswerSchema) -> StructuredAnswer:
    """Ask once and, when the answer does not match, once more with what was wrong.

    When that second call fails, the first answer stands as it was, invalid and paid for.

    Raises:
        ModelCallFailed: the first call gave no answer at all.
    """
    request = replace(request, response_format=schema.response_format)
    first = await models.complete(request)
    value, problems = parse_object(first.text, schema)
    if not problems:
        return StructuredAnswer(value, True, [], first.usage, first.cost_usd, first.model, first.text)
    messages = [*request.messages, {"role": "assistant", "content": first.text}, repair_message(problems)]
    try:
        second = await models.complete(replace(request, messages=messages))
    except ModelCallFailed as error:
        problems = [*problems, f"repair: {error.message}"]
        return StructuredAnswer(value, False, problems, first.usage, first.cost_usd, first.model, first.text)
    repaired, problems = parse_object(second.text, schema)
    return StructuredAnswer(
        value=repaired if repaired is not None else value,
        valid=not problems,
        problems=problems,
        usage=first.usage + second.usage,
        cost_usd=add_costs(first.cost_usd, second.cost_usd),
        model=second.model,
        text=second.text,
    )


def parse_object(text: str, schema: AnswerSchema) -> tuple[JsonObject | None, list[str]]:
    """The JSON object in a text, and what is wrong with it."""
    start, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[start : end + 1]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None, ["answer: it is not valid JSON"]
    if not isinstance(value, dict):
        return None, ["answer: it is not a JSON object"]
    try:
        return value, schema.problems(value)
    except ValueError:
        return value, ["answer: it holds a number that JSON does not have"]


def repair_message(problems: list[str]) -> JsonObject:
    """The user's turn that asks for a second, corrected answer."""
    listed = "\n".join(f"- {problem}" for problem in problems[:MAX_PROBLEMS_SHOWN])
    request = "Answer again with the corrected JSON object alone."
    return {"role": "user", "content": f"That answer does not match the schema:\n{listed}\n{request}"}

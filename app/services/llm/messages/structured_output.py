"""Structured answers: a strict JSON schema, validation, and one repair."""

import json
from dataclasses import dataclass, replace
from typing import Any

import jsonschema_rs

from app.kit.json_limits import count_values
from app.kit.json_values import JsonObject
from app.services.llm.calls import Completion, ModelCall, ModelCaller, ModelRequest, TokenUsage, call_fields, sum_of
from app.services.llm.failures.errors import ModelCallFailed
from app.services.usage.budgets.errors import BudgetRefused

MAX_PROBLEMS_SHOWN = 8
MAX_VALUES_FOR_ALL_PROBLEMS = 2_000
"""Only the first problem is reported for an answer with more values, to save time on the event loop."""
MAX_PROBLEM_CHARACTERS = 300
"""The characters that are kept of a problem, because the validator quotes the wrong value in full."""
MAX_OBJECTS = 200
"""The number of opening braces at which parsing is attempted."""
DECODER = json.JSONDecoder()
END_OF_THOUGHTS = "</think>"
CUT_PROBLEM = "answer: it was cut off at the output limit; answer shorter"


class AnswerSchema:
    """A named JSON schema that an answer must match."""

    def __init__(self, name: str, schema: JsonObject) -> None:
        self.response_format: JsonObject = {
            "type": "json_schema",
            "json_schema": {"name": name, "strict": True, "schema": schema},
        }
        self._validator = jsonschema_rs.Draft202012Validator(schema)

    def problems(self, value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
        """Return the problems of a value, one per line; only the first one for a large value."""
        if count_values(value, MAX_VALUES_FOR_ALL_PROBLEMS) < MAX_VALUES_FOR_ALL_PROBLEMS:
            return [line_about(error) for error in self._validator.iter_errors(value)]
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return [line_about(error)]
        return []


def line_about(error: jsonschema_rs.ValidationError) -> str:
    """Return a problem as a short line."""
    place = ".".join(map(str, error.instance_path)) or "answer"
    return f"{place}: {error.message}"[:MAX_PROBLEM_CHARACTERS]


@dataclass(frozen=True)
class StructuredAnswer:
    """A structured answer: `value` is the last JSON object found, `valid` says whether it matches the schema."""

    value: JsonObject | None
    valid: bool
    problems: list[str]
    calls: tuple[ModelCall, ...]
    """The calls behind it, a failed repair included."""
    model: str
    text: str
    prompt_hash: str | None = None
    """The hash of the kept messages of the last call."""

    @property
    def usage(self) -> TokenUsage:
        """The tokens of the calls."""
        return sum_of(self.calls)[0]

    @property
    def cost_usd(self) -> float | None:
        """The cost of the calls."""
        return sum_of(self.calls)[1]

    def as_fields(self) -> JsonObject:
        """Return the fields of the event that reports the calls."""
        return {"model": self.model, "prompt_hash": self.prompt_hash} | call_fields(self.calls)


async def ask_structured(models: ModelCaller, request: ModelRequest, schema: AnswerSchema) -> StructuredAnswer:
    """Ask once and, if the answer does not match or was cut, once more with its problems.

    If the second call fails, the first answer is returned as invalid, with its cost.

    Raises:
        ModelCallFailed: the first call failed.
        BudgetRefused: a budget does not permit a call; the error has the first call, if it was the second.
    """
    request = replace(request, response_format=schema.response_format)
    first = await models.complete(request)
    value, problems = read_answer(first, schema)
    if not problems:
        return StructuredAnswer(value, True, [], first.calls, first.model, first.text, first.prompt_hash)
    messages = [*request.messages, {"role": "assistant", "content": first.text}, repair_message(problems)]
    limit = None if first.is_cut else request.max_tokens
    try:
        second = await models.complete(replace(request, messages=messages, max_tokens=limit))
    except BudgetRefused as error:
        error.calls = first.calls
        raise
    except ModelCallFailed as error:
        problems = [*problems, f"repair: {error.message}"]
        calls = (*first.calls, *error.calls)
        return StructuredAnswer(value, False, problems, calls, first.model, first.text, first.prompt_hash)
    repaired, problems = read_answer(second, schema)
    return StructuredAnswer(
        value=repaired if repaired is not None else value,
        valid=not problems,
        problems=problems,
        calls=(*first.calls, *second.calls),
        model=second.model,
        text=second.text,
        prompt_hash=second.prompt_hash,
    )


def read_answer(completion: Completion, schema: AnswerSchema) -> tuple[JsonObject | None, list[str]]:
    """Return the JSON object in an answer and its problems; a cut answer is always invalid."""
    value, problems = parse_object(completion.text, schema)
    return value, [CUT_PROBLEM, *problems] if completion.is_cut else problems


def parse_object(text: str, schema: AnswerSchema) -> tuple[JsonObject | None, list[str]]:
    """Return the JSON object in a text and its problems.

    The object can be in prose, in a code fence or after reasoning. Of several, the last one that matches the schema
    counts, otherwise the largest.
    """
    found = objects_in(text.rpartition(END_OF_THOUGHTS)[2]) or objects_in(text)
    if not found:
        return None, ["answer: it is not valid JSON" if "{" in text else "answer: it is not a JSON object"]
    checked = [(value, problems_of(value, schema)) for value, _ in found]
    sizes = [size for _, size in found]
    matching = [item for item in checked if not item[1]]
    return matching[-1] if matching else checked[sizes.index(max(sizes))]


def objects_in(text: str) -> list[tuple[JsonObject, int]]:
    """Return the outermost JSON objects in a text, with their lengths; a malformed one hides the objects inside it."""
    found: list[tuple[JsonObject, int]] = []
    start = text.find("{")
    for _ in range(MAX_OBJECTS):
        if start < 0:
            break
        try:
            value, end = DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            end = max(error.pos, start + 1)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            found.append((value, end - start))
        start = text.find("{", end)
    return found


def problems_of(value: JsonObject, schema: AnswerSchema) -> list[str]:
    """Return the problems of an object, one per line."""
    try:
        return schema.problems(value)
    except ValueError:
        return ["answer: it is nested too deeply, or holds a number that JSON does not have"]


def repair_message(problems: list[str]) -> JsonObject:
    """Return the user's turn that asks for a second, corrected answer."""
    listed = "\n".join(f"- {problem}" for problem in problems[:MAX_PROBLEMS_SHOWN])
    request = "Answer again with the corrected JSON object alone."
    return {"role": "user", "content": f"That answer does not match the schema:\n{listed}\n{request}"}

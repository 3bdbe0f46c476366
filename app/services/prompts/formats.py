"""The prompts of output schemas: for the agent that answers, and for the call that turns a text into data."""

import json

from app.errors import FieldError
from app.kit.json_values import JsonObject, clean_json
from app.services.prompts.fences import CUT_NOTE, FENCE_RULE, fenced, shortened

SCHEMA = "SCHEMA"
TEXT = "TEXT"
MAX_TEXT_CHARACTERS = 200_000
MAX_PROBLEMS_SHOWN = 8
FORMAT_SYSTEM_PROMPT = (
    "You turn a finished text into data that matches a JSON schema. Take every value from the text: translate and "
    "shorten nothing that the schema leaves room for, and invent nothing. Answer with the JSON value alone, without a "
    "word before or after it.\n"
) + FENCE_RULE


def schema_text(schema: JsonObject) -> str:
    """Return a schema as fenced data."""
    return fenced(SCHEMA, json.dumps(clean_json(schema), ensure_ascii=False))


def schema_instruction(schema: JsonObject) -> str:
    """Return the part of an agent's instructions that asks for an answer in a schema's form."""
    return (
        "Your final answer has to be one JSON value that matches this JSON schema, without a word before or after it:\n"
        f"{schema_text(schema)}"
    )


def format_prompt(text: str, *, schema: JsonObject | None, truncated: bool = False) -> str:
    """Ask for a text's data; without a `schema`, the call has it elsewhere."""
    shown = "" if schema is None else f"The JSON schema:\n{schema_text(schema)}\n\n"
    note = f"\n{CUT_NOTE}" if truncated else ""
    return f"{shown}The text:\n{fenced(TEXT, shortened(text, MAX_TEXT_CHARACTERS))}{note}"


def format_repair(problems: tuple[FieldError, ...]) -> str:
    """Ask for another answer after one that does not match; each problem has the path of its value."""
    listed = "\n".join(f"- {one.path or 'the answer'}: {one.message}" for one in problems[:MAX_PROBLEMS_SHOWN])
    return f"That answer does not match the schema:\n{listed}\nAnswer again with the corrected JSON value alone."

"""The data in an answer, found in its text and validated here, whatever the provider guarantees."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, cast

import bson

from app.errors import AppError, FieldError
from app.kit.check_thread import in_check_thread
from app.kit.json_values import JsonObject, clean_json
from app.kit.strict_json import UniqueKeys, find_problems, loads, references_in
from app.services.llm.messages.structured_output import END_OF_THOUGHTS, objects_in
from app.services.tools.schemas import MAX_ERRORS, InputValidator, InvalidSchema, compile_output_schema

MAX_DATA_BYTES = 512 * 1024
"""The size limit of an output's data as BSON."""
SMALL_TEXT_CHARACTERS = 2_000
"""Longer answers are read in a thread."""
CODE_FENCE = "```"
MAX_BLOCKS = 9
NOT_JSON = FieldError("", "the answer is not JSON")
CUT = FieldError("", "the answer was cut off at the model's output limit; answer shorter")


class OutputSchemaInvalid(AppError):
    """The stored output schema of the agent cannot be used."""

    code = "output-schema-invalid"

    def __init__(self, agent_id: str, problem: str) -> None:
        super().__init__(f"The outputSchema of the agent {agent_id!r} cannot be used: {problem}")


class OutputInvalid(AppError):
    """The output does not match the output schema; `errors` says where."""

    code = "output-invalid"

    def __init__(self, problems: tuple[FieldError, ...], calls: int) -> None:
        first = problems[0]
        place = f"{first.path}: " if first.path else ""
        super().__init__(
            f"The output does not match the output schema after {calls} formatting calls. {place}{first.message}",
            errors=problems,
        )


@dataclass(frozen=True)
class DataReading:
    """The data in an answer, or the problems that keep it from having any; paths are relative to the data."""

    value: Any
    problems: tuple[FieldError, ...] = ()


@dataclass(frozen=True)
class OutputSchema:
    """A compiled output schema."""

    schema: JsonObject
    validator: InputValidator

    @classmethod
    async def compile(cls, schema: object, agent_id: str) -> "OutputSchema":
        """Return the compiled schema.

        Raises:
            OutputSchemaInvalid: it is not a usable JSON Schema.
        """
        if not isinstance(schema, dict):
            raise OutputSchemaInvalid(agent_id, "it is not an object")
        plain: JsonObject = clean_json(cast("JsonObject", schema))
        try:
            return cls(plain, await in_check_thread(compile_output_schema, plain))
        except InvalidSchema as error:
            raise OutputSchemaInvalid(agent_id, str(error)) from None

    @property
    def is_of_objects(self) -> bool:
        """Whether the data is an object: providers' structured output supports only objects."""
        return self.schema.get("type") == "object"

    async def read(self, text: str, *, truncated: bool = False, searched: bool = False) -> DataReading:
        """Return the data in an answer.

        The answer is JSON, or has one code block that is. If `searched`, JSON within other text counts too; of several
        values, the last one that matches.
        """
        if len(text) <= SMALL_TEXT_CHARACTERS:
            reading = self._read(text, searched=searched)
        else:
            reading = await in_check_thread(self._read, text, searched=searched)
        return DataReading(None, (CUT, *reading.problems)) if truncated else reading

    def _read(self, text: str, *, searched: bool) -> DataReading:
        said = text.rpartition(END_OF_THOUGHTS)[2]
        readings = [self._checked(candidate) for candidate in candidates(said, searched=searched)]
        valid = [reading for reading in readings if not reading.problems]
        return (valid or readings or [DataReading(None, (NOT_JSON,))])[-1]

    def _checked(self, text: str) -> DataReading:
        pairs = UniqueKeys()
        try:
            value = loads(text, pairs)
        except (ValueError, RecursionError):
            return DataReading(None, (NOT_JSON,))
        unstorable = chain(find_problems(value, pairs, (None, "data")), references_in(value, (None, "data")))
        if problems := tuple(islice(unstorable, MAX_ERRORS)):
            return DataReading(None, tuple(FieldError(within(one.path), one.message) for one in problems))
        if (size := len(bson.encode({"data": value}))) > MAX_DATA_BYTES:
            return DataReading(None, (FieldError("", f"takes {size} bytes, more than {MAX_DATA_BYTES}"),))
        if problems := tuple(self.validator.errors(value)):
            return DataReading(None, problems)
        return DataReading(value)


def within(path: str) -> str:
    """Return a path below `data` relative to it."""
    return path.removeprefix("data").removeprefix(".")


def candidates(text: str, *, searched: bool) -> Iterator[str]:
    """Yield the parts of an answer that may be its data, the best one last."""
    whole = text.strip()
    blocks = list(islice(code_blocks(text), MAX_BLOCKS))
    is_whole = is_json(whole)
    if searched and not is_whole:
        for value, _ in objects_in(text):
            yield json.dumps(value)
        opening, closing = text.find("["), text.rfind("]")
        if 0 <= opening < closing:
            yield text[opening : closing + 1]
    if searched or len(blocks) == 1:
        yield from blocks
    if is_whole or not blocks:
        yield whole


def code_blocks(text: str) -> Iterator[str]:
    """Yield the contents of the code blocks in a Markdown text."""
    block: list[str] | None = None
    for line in text.split("\n"):
        if block is None:
            if line.startswith(CODE_FENCE) and "`" not in line[len(CODE_FENCE) :]:
                block = []
        elif line.rstrip() == CODE_FENCE:
            yield "\n".join(block)
            block = None
        else:
            block.append(line)


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        loads(text, UniqueKeys())
    except (ValueError, RecursionError):
        return False
    return True


def text_output(text: str) -> JsonObject:
    """Return an agent's output: its text, and `data` if the text is JSON of at most half a megabyte in BSON."""
    try:
        parsed = clean_json(json.loads(text, parse_constant=refuse_constant))
    except (ValueError, RecursionError):
        parsed = None
    if len(bson.encode({"data": parsed})) > MAX_DATA_BYTES:
        parsed = None
    return {"text": text, "data": parsed}


def refuse_constant(name: str) -> None:
    """Refuse `NaN` and the infinities, which are not JSON."""
    raise ValueError(name)

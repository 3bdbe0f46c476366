"""Checks of a tool before it is stored (code, schema and examples), and of its input before each call."""

from dataclasses import dataclass
from typing import Any

from app.errors import FieldError, InvalidInput
from app.kit.check_thread import in_check_thread
from app.kit.json_limits import JsonObject, count_values
from app.services.catalog.definitions import ToolDefinition
from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox
from app.services.tools.schemas import InputValidator, InvalidSchema, compile_schema

MAX_NAMED_ERRORS = 8
# Larger inputs are checked in a thread, because a pattern can take 80 µs per character.
SMALL_INPUT_CHARACTERS = 2000
SMALL_INPUT_NODES = 200
EXAMPLE_CONTEXT = {
    "executionId": "example",
    "agentId": "example",
    "department": "example",
    "project": None,
    "episode": None,
}


@dataclass(frozen=True)
class ToolChecker:
    """Checks tools in the sandbox that runs them."""

    sandbox: ToolSandbox

    async def check(self, code: str, schema: JsonObject, examples: list[Any]) -> None:
        """Check the code, the schema and the examples of a tool, in this order.

        Raises:
            InvalidInput: a field or an example is invalid.
        """
        try:
            await self.sandbox.check(code)
        except ToolFailed as error:
            raise InvalidInput.of_field("executeFunction", error.message) from None
        try:
            validator = await in_check_thread(compile_schema, schema)
        except InvalidSchema as error:
            raise InvalidInput.of_field("inputSchema", str(error)) from None
        for place, example in enumerate(examples):
            await self._check_example(code, validator, example, f"exampleInputs.{place}")

    async def _check_example(self, code: str, validator: InputValidator, example: Any, path: str) -> None:  # noqa: ANN401 - any JSON value
        wrong = await errors_of(validator, example)
        if wrong:
            where = f"{path}.{wrong[0].path}" if wrong[0].path else path
            raise InvalidInput.of_field(where, f"does not match inputSchema: {wrong[0].message}")
        try:
            await self.sandbox.run(ToolInvocation(code, example, EXAMPLE_CONTEXT))
        except ToolFailed as error:
            raise InvalidInput.of_field(path, f"fails with {error.code}: {error.message}") from None


async def check_input(tool: ToolDefinition, tool_input: Any) -> None:  # noqa: ANN401 - any JSON value
    """Check that an input matches the tool's schema.

    Raises:
        ToolFailed: the input does not match, with a message that a model can act on, or the schema is invalid.
    """
    try:
        validator = await tool.get_validator()
    except InvalidSchema as error:
        raise ToolFailed("tool-schema-invalid", str(error)) from None
    wrong = await errors_of(validator, tool_input)
    if wrong:
        listed = "; ".join(f"{error.path or 'input'}: {error.message}" for error in wrong[:MAX_NAMED_ERRORS])
        raise ToolFailed("tool-input-invalid", listed)


async def errors_of(validator: InputValidator, value: Any) -> list[FieldError]:  # noqa: ANN401 - any JSON value
    """Return the problems of an input; a large one is checked in a thread."""
    return validator.errors(value) if is_small(value) else await in_check_thread(validator.errors, value)


def is_small(value: object) -> bool:
    """Return whether an input is small enough to check on the event loop."""
    return count_values(value, SMALL_INPUT_NODES) < SMALL_INPUT_NODES and len(str(value)) < SMALL_INPUT_CHARACTERS

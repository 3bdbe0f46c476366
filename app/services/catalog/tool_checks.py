"""What a custom tool must stand before it is stored: its code compiles, its schema is one, its examples pass."""

from dataclasses import dataclass
from typing import Any

from app.errors import InvalidInput
from app.models.json_values import JsonObject
from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox import ToolInvocation, ToolSandbox
from app.services.tools.schemas import InputValidator, InvalidSchema, compile_schema

EXAMPLE_CONTEXT = {"executionId": "example", "agentId": "example", "department": "example", "project": None}


@dataclass(frozen=True)
class ToolChecker:
    """Checks tools in the sandbox in which they will run."""

    sandbox: ToolSandbox

    async def check(self, code: str, schema: JsonObject, examples: list[Any]) -> None:
        """Everything, in order.

        Raises:
            InvalidInput: the field, or the example, that is wrong, and how.
        """
        try:
            await self.sandbox.check(code)
        except ToolFailed as error:
            raise InvalidInput.of_field("executeFunction", error.message) from None
        try:
            validator = compile_schema(schema)
        except InvalidSchema as error:
            raise InvalidInput.of_field("inputSchema", str(error)) from None
        for place, example in enumerate(examples):
            await self._check_example(code, validator, example, f"exampleInputs.{place}")

    async def _check_example(self, code: str, validator: InputValidator, example: Any, path: str) -> None:  # noqa: ANN401 - any JSON value
        wrong = validator.errors(example)
        if wrong:
            where = f"{path}.{wrong[0].path}" if wrong[0].path else path
            raise InvalidInput.of_field(where, f"does not match inputSchema: {wrong[0].message}")
        try:
            await self.sandbox.run(ToolInvocation(code, example, EXAMPLE_CONTEXT))
        except ToolFailed as error:
            raise InvalidInput.of_field(path, f"fails with {error.code}: {error.message}") from None

"""Enumerations whose OpenAPI schemas explain each value."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class DescribedEnum(StrEnum):
    """An enumeration whose values are explained by the docstrings below them.

    The schema's description lists each value, and `x-enumDescriptions` repeats the list for documentation tools.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        meanings = {cls[name].value: text for name, text in member_docstrings(cls)}
        listed = "\n".join(f"- `{value}`: {text}" for value, text in meanings.items())
        schema["description"] = f"{inspect.getdoc(cls)}\n\n{listed}"
        schema["x-enumDescriptions"] = meanings
        return reference


def member_docstrings(enumeration: type[StrEnum]) -> Iterator[tuple[str, str]]:
    """Yield each documented member's name, with the docstring below it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(enumeration)))
    for definition in ast.walk(tree):
        if not isinstance(definition, ast.ClassDef):
            continue
        for statement, following in pairwise(definition.body):
            match statement, following:
                case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                    yield name, inspect.cleandoc(text)
                case _:
                    pass

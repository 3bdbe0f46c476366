"""Checking a tool's input against its JSON Schema; nothing that a schema points to is ever fetched."""

from typing import Any, cast
from urllib.parse import unquote

from jsonschema_rs import FancyRegexOptions, ValidationError, ValidationErrorKind, Validator, validator_for

from app.errors import FieldError

MAX_ERRORS = 20
MAX_MESSAGE_CHARACTERS = 300
# Definitions that refer to one another twice each double with every step: 18 of them took 8 s to check.
MAX_UNFOLDED_NODES = 10_000
# All errors cost 12 µs each, and there can be as many as nodes in the schema times nodes in the value.
MAX_CHECKS_FOR_ALL_ERRORS = 20_000
# A pattern with look-around or back-references gives up after 0.3 ms; all others take linear time.
MAX_BACKTRACKS = 10_000


class InvalidSchema(Exception):
    """This is no JSON Schema that a tool can have; `errors` name the places within the schema."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(f"{error.path}: {error.message}" if error.path else error.message)
        self.errors = (error,)


class InputValidator:
    """A compiled schema."""

    def __init__(self, validator: Validator, unfolded_nodes: int) -> None:
        self._validator = validator
        self._unfolded_nodes = unfolded_nodes

    def errors(self, value: object) -> list[FieldError]:
        """What is wrong with an input, the first 20 errors; of a large input the first error alone.

        Linear in the size of the input, but a pattern of large repetitions can take 80 µs a character: check what may
        be large in a thread (others run meanwhile).
        """
        try:
            if self._validator.is_valid(value):
                return []
            if self._unfolded_nodes * count_nodes(value, MAX_CHECKS_FOR_ALL_ERRORS) <= MAX_CHECKS_FOR_ALL_ERRORS:
                return [field_error(error) for error in self._validator.iter_errors(value)][:MAX_ERRORS]
            self._validator.validate(value)
        except ValidationError as error:
            return [field_error(error)]
        except ValueError as error:
            return [FieldError("", f"The input cannot be checked: {error}.")]
        return []


def compile_schema(schema: dict[str, Any]) -> InputValidator:
    """Compile a tool's input schema: draft 2020-12, or the standard draft that `$schema` names.

    Raises:
        InvalidSchema: it is no JSON Schema, not one of an object, refers to something outside itself, or unfolds to
            an unreasonable size.
    """
    if schema.get("type", "object") != "object":
        raise InvalidSchema(FieldError("type", "A tool's input is an object: leave the type out or make it `object`."))
    try:
        validator = validator_for(
            schema, offline=True, pattern_options=FancyRegexOptions(backtrack_limit=MAX_BACKTRACKS)
        )
    except ValidationError as error:
        raise InvalidSchema(field_error(error)) from error
    except ValueError as error:
        raise InvalidSchema(FieldError("", f"This is not a JSON Schema: {error}.")) from error
    try:
        unfolded_nodes = Unfolding(schema).nodes
    except RecursionError:
        unfolded_nodes = MAX_UNFOLDED_NODES + 1
    if unfolded_nodes > MAX_UNFOLDED_NODES:
        raise InvalidSchema(FieldError("", f"The schema unfolds to over {MAX_UNFOLDED_NODES} parts."))
    return InputValidator(validator, unfolded_nodes)


def field_error(error: ValidationError) -> FieldError:
    """The library's error by the dotted path of the field; a missing field is named itself."""
    path = [str(step) for step in error.instance_path]
    if isinstance(error.kind, ValidationErrorKind.Required):
        path.append(error.kind.property)
    message = error.message
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[:MAX_MESSAGE_CHARACTERS] + "…"
    return FieldError(".".join(path), message)


def count_nodes(value: object, limit: int) -> int:
    """How many values a JSON value consists of, counted no further than the limit."""
    count, left = 0, [value]
    while left and count < limit:
        node = left.pop()
        count += 1
        left.extend(children_of(node))
    return count


def children_of(node: object) -> list[object]:
    """The values directly inside a JSON value."""
    if isinstance(node, dict):
        return list(cast("dict[str, object]", node).values())
    return list(cast("list[object]", node)) if isinstance(node, list) else []


class Unfolding:
    """A schema with every reference replaced by what it refers to: only its size is ever made."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._by_reference: dict[str, int] = {}
        self.nodes = self._weigh(schema)

    def _weigh(self, node: object) -> int:
        weight = 1 + sum(self._weigh(child) for child in children_of(node))
        if isinstance(node, dict):
            keywords = cast("dict[str, object]", node)
            references = (keywords.get(keyword) for keyword in ("$ref", "$dynamicRef"))
            weight += sum(self._weigh_target(reference) for reference in references if isinstance(reference, str))
        return weight

    def _weigh_target(self, reference: str) -> int:
        if reference not in self._by_reference:
            # A circle is followed once: after that it goes on only as deep as the input does.
            self._by_reference[reference] = 0
            self._by_reference[reference] = self._weigh(self._target(reference))
        return self._by_reference[reference]

    def _target(self, reference: str) -> object:
        if not reference.startswith("#/"):
            return self._anchored(reference)
        node: object = self._schema
        for step in unquote(reference[2:]).split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = cast("dict[str, object]", node).get(key)
            elif isinstance(node, list) and key.isdecimal():
                node = children_of(node)[int(key)]
        return node

    def _anchored(self, reference: str) -> object:
        left: list[object] = [self._schema]
        while left:
            node = left.pop()
            if isinstance(node, dict):
                keywords = cast("dict[str, object]", node)
                if reference in (f"#{keywords.get('$anchor')}", f"#{keywords.get('$dynamicAnchor')}"):
                    return keywords
            left.extend(children_of(node))
        return self._schema if reference == "#" else None

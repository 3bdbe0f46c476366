"""Validation of tools' inputs by their JSON Schemas; external references are never fetched."""

from typing import Any, cast

from jsonschema_rs import (
    FancyRegexOptions,
    RegexOptions,
    ValidationError,
    ValidationErrorKind,
    Validator,
    validator_for,
)

from app.errors import FieldError
from app.kit.json_limits import JsonObject, children_of, count_values
from app.services.tools.schema_weight import (
    MAX_BACKTRACKS,
    MAX_MATCHER_CACHE_BYTES,
    MAX_PATTERN_BYTES,
    InvalidSchema,
    SchemaWeight,
    weigh_schema,
)

MAX_ERRORS = 20
MAX_MESSAGE_CHARACTERS = 300
# All errors cost 12 µs each, and there can be as many as nodes in the schema times nodes in the value.
MAX_CHECKS_FOR_ALL_ERRORS = 20_000
# Every part of a schema can look at every value, which takes about 20 ns each.
MAX_CHECKS = 20_000_000
# A large pattern takes time in proportion to its own size for each character: 100 µs for one of a mebibyte.
MAX_PATTERN_STEPS = 2048 * MAX_PATTERN_BYTES
# A pattern with look-around can take 0.3 ms for each text.
MAX_VALUES_TO_BACKTRACK_IN = 300


class InputValidator:
    """A compiled schema."""

    def __init__(self, validator: Validator, weight: SchemaWeight) -> None:
        self._validator = validator
        self._weight = weight

    def errors(self, value: object) -> list[FieldError]:
        """Return the first 20 errors of a value; only the first one for a large value.

        Takes at most half a second, because an input that would take longer is refused unchecked. Check large inputs in
        a thread.
        """
        values = count_values(value, MAX_CHECKS + 1)
        if self._is_too_much(value, values):
            return [FieldError("", "The value is too large to be checked against this schema.")]
        try:
            if self._validator.is_valid(value):
                return []
            if self._weight.values * values <= MAX_CHECKS_FOR_ALL_ERRORS:
                return [field_error(error) for error in self._validator.iter_errors(value)][:MAX_ERRORS]
            self._validator.validate(value)
        except ValidationError as error:
            return [field_error(error)]
        except ValueError as error:
            return [FieldError("", f"The input cannot be checked: {error}.")]
        return []

    def _is_too_much(self, value: object, values: int) -> bool:
        """Return whether checking an input could take long."""
        if self._weight.values * values > MAX_CHECKS:
            return True
        if self._weight.backtracks and values > MAX_VALUES_TO_BACKTRACK_IN:
            return True
        heavy = self._weight.heavy_pattern_bytes
        return heavy > 0 and heavy * count_characters(value) > MAX_PATTERN_STEPS


def compile_schema(schema: dict[str, Any]) -> InputValidator:
    """Compile a tool's input schema: draft 2020-12, or the standard draft that `$schema` names.

    Raises:
        InvalidSchema: the schema is invalid, is not of type object, has external references, or expands to
            an unreasonable size.
    """
    if schema.get("type", "object") != "object":
        raise InvalidSchema(FieldError("type", "A tool's input is an object: omit the type or set it to `object`."))
    return compile_output_schema(schema)


def compile_output_schema(schema: dict[str, Any]) -> InputValidator:
    """Compile the schema of any JSON value: draft 2020-12, or the standard draft that `$schema` names.

    Raises:
        InvalidSchema: the schema is invalid, has external references, or expands to an unreasonable size.
    """
    weight = weigh_schema(schema)
    try:
        validator = validator_for(schema, offline=True, pattern_options=pattern_options(weight))
    except ValidationError as error:
        raise InvalidSchema(field_error(error)) from error
    except ValueError as error:
        raise InvalidSchema(FieldError("", f"This is not a JSON Schema: {error}.")) from error
    return InputValidator(validator, weight)


def pattern_options(weight: SchemaWeight) -> RegexOptions | FancyRegexOptions:
    """Return the engine for a schema's patterns: the linear-time one, unless a pattern needs the other."""
    if weight.backtracks:
        return FancyRegexOptions(
            backtrack_limit=MAX_BACKTRACKS, size_limit=MAX_PATTERN_BYTES, dfa_size_limit=MAX_MATCHER_CACHE_BYTES
        )
    return RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=MAX_MATCHER_CACHE_BYTES)


def field_error(error: ValidationError) -> FieldError:
    """Return the library's error with the dotted path of the field; for a missing field, the path of that field."""
    path = [str(step) for step in error.instance_path]
    if isinstance(error.kind, ValidationErrorKind.Required):
        path.append(error.kind.property)
    message = error.message
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[:MAX_MESSAGE_CHARACTERS] + "…"
    return FieldError(".".join(path), message)


def count_characters(value: object) -> int:
    """Return the number of characters in the texts and keys of a JSON value."""
    count, left = 0, [value]
    while left:
        node = left.pop()
        if isinstance(node, str):
            count += len(node)
        elif isinstance(node, dict):
            count += sum(len(key) for key in cast("JsonObject", node))
        left.extend(children_of(node))
    return count

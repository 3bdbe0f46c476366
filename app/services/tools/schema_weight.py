"""Weighing a JSON Schema before it is compiled: its size, its expanded references, its compiled patterns.

A schema of a few KiB can hold patterns that compile to gigabytes, or references that double with every step. Weighing
takes time in proportion to the schema; only what is light enough is compiled.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote

import orjson
from jsonschema_rs import FancyRegexOptions, RegexOptions, ValidationError, validator_for

from app.errors import FieldError
from app.kit.json_limits import JsonObject, children_of, count_values
from app.kit.strict_json import Path, shown_path

MAX_SCHEMA_BYTES = 64 * 1024
MAX_UNFOLDED_VALUES = 10_000
"""The limit on expanded values: 18 definitions that each refer to the next one twice took 8 s to check."""
MAX_PATTERN_BYTES = 1024 * 1024
"""The size limit of a compiled pattern, which takes 10 ms to compile."""
MAX_ALL_PATTERNS_BYTES = 2 * MAX_PATTERN_BYTES
LIGHT_PATTERN_BYTES = 16 * 1024
"""Patterns up to this size take a few nanoseconds a character; larger ones up to 100 µs."""
PATTERN_SIZES = (4096, LIGHT_PATTERN_BYTES, 64 * 1024, 256 * 1024, MAX_PATTERN_BYTES)
LOOKS_BEYOND = re.compile(r"\(\?|\\[1-9k]")
"""Constructs that need the backtracking engine."""
MAX_MATCHER_CACHE_BYTES = 256 * 1024
MAX_BACKTRACKS = 10_000
"""The step limit of patterns with look-around or back-references; the steps take 0.3 ms."""


class InvalidSchema(Exception):
    """The JSON Schema is not valid for a tool; `errors` name the places within the schema."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(f"{error.path}: {error.message}" if error.path else error.message)
        self.errors = (error,)


@dataclass(frozen=True)
class SchemaWeight:
    """The weight of a schema: its values with every reference expanded, and the compiled bytes of its patterns.

    `heavy_pattern_bytes` counts patterns of more than 16 KiB. `backtracks` says that a pattern has look-around or
    back-references, so that its time can grow faster than the text.
    """

    values: int = 1
    pattern_bytes: int = 0
    heavy_pattern_bytes: int = 0
    backtracks: bool = False

    def __add__(self, other: "SchemaWeight") -> "SchemaWeight":
        """Return the sum of two weights."""
        return SchemaWeight(
            self.values + other.values,
            self.pattern_bytes + other.pattern_bytes,
            self.heavy_pattern_bytes + other.heavy_pattern_bytes,
            self.backtracks or other.backtracks,
        )


NOTHING = SchemaWeight(values=0)
MAPS_OF_SCHEMAS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
DATA = frozenset({"const", "enum", "default", "example", "examples"})
"""Keywords whose value is not a schema."""


def weigh_schema(schema: JsonObject) -> SchemaWeight:
    """Return the weight of a schema.

    Raises:
        InvalidSchema: the schema is too heavy to be compiled.
    """
    refuse_large(schema)
    try:
        weight = Unfolding(schema).weight
    except RecursionError:
        raise unfolds_too_far() from None
    if weight.values > MAX_UNFOLDED_VALUES:
        raise unfolds_too_far()
    if weight.pattern_bytes > MAX_ALL_PATTERNS_BYTES:
        raise patterns_too_heavy()
    return weight


def refuse_large(schema: JsonObject) -> None:
    """Refuse a schema for its size alone.

    Raises:
        InvalidSchema: the schema is too large, or not JSON.
    """
    if count_values(schema, MAX_UNFOLDED_VALUES + 1) > MAX_UNFOLDED_VALUES:
        raise InvalidSchema(FieldError("", f"The schema has more than {MAX_UNFOLDED_VALUES} parts."))
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError:
        raise InvalidSchema(FieldError("", "This is not a JSON Schema: it is not JSON.")) from None
    if size > MAX_SCHEMA_BYTES:
        raise InvalidSchema(FieldError("", f"The schema has {size} bytes as JSON, more than {MAX_SCHEMA_BYTES}."))


def unfolds_too_far() -> InvalidSchema:
    """Return the error for a schema whose references multiply."""
    return InvalidSchema(FieldError("", f"The schema unfolds to more than {MAX_UNFOLDED_VALUES} parts."))


def patterns_too_heavy() -> InvalidSchema:
    """Return the error for patterns that are too large once compiled."""
    limit = f"{MAX_ALL_PATTERNS_BYTES // 1024} KiB"
    return InvalidSchema(
        FieldError("", f"The patterns take more than {limit} once compiled: use fewer or simpler patterns.")
    )


@lru_cache(maxsize=1024)
def weigh_pattern(pattern: str) -> SchemaWeight | None:
    """Return the compiled size of a pattern: the smallest of a few limits within which it compiles, or `None`."""
    for limit in PATTERN_SIZES:
        if compiles(pattern, RegexOptions(size_limit=limit)):
            return pattern_weight(limit, backtracks=False)
    for limit in PATTERN_SIZES if LOOKS_BEYOND.search(pattern) else ():
        if compiles(pattern, FancyRegexOptions(size_limit=limit, backtrack_limit=MAX_BACKTRACKS)):
            return pattern_weight(limit, backtracks=True)
    return None


def pattern_weight(size: int, *, backtracks: bool) -> SchemaWeight:
    """Return the weight of a pattern of this compiled size."""
    return SchemaWeight(0, size, size if size > LIGHT_PATTERN_BYTES else 0, backtracks)


def compiles(pattern: str, options: RegexOptions | FancyRegexOptions) -> bool:
    """Return whether a pattern compiles with these options."""
    try:
        validator_for({"pattern": pattern}, offline=True, pattern_options=options)
    except (ValidationError, ValueError):
        return False
    return True


@dataclass
class Unfolding:
    """A schema with every reference expanded; only its weight is ever computed."""

    schema: JsonObject
    anchors: dict[str, JsonObject] = field(init=False)
    weight: SchemaWeight = field(init=False)
    _by_reference: dict[str, SchemaWeight] = field(default_factory=dict[str, SchemaWeight])
    _patterns: set[str] = field(default_factory=set[str])
    _pattern_bytes: int = 0

    def __post_init__(self) -> None:
        self.anchors = anchors_in(self.schema)
        self.weight = self._weigh(self.schema)

    def _weigh(self, node: object, *, is_map: bool = False) -> SchemaWeight:
        """Return the weight of a schema, of a list of schemas, or of a map of schemas by their names."""
        weight = SchemaWeight()
        if not isinstance(node, dict):
            for child in children_of(node):
                weight += self._weigh(child)
            return weight
        keywords = cast("JsonObject", node)
        for name, child in keywords.items():
            if name in DATA and not is_map:
                weight += SchemaWeight(count_values(child, MAX_UNFOLDED_VALUES))
            else:
                weight += self._weigh(child, is_map=name in MAPS_OF_SCHEMAS and not is_map)
        return weight if is_map else weight + self._weigh_keywords(keywords)

    def _weigh_keywords(self, keywords: JsonObject) -> SchemaWeight:
        weight = NOTHING
        for pattern in patterns_of(keywords):
            weight += self._weigh_pattern(pattern)
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(reference := keywords.get(keyword), str):
                weight += self._weigh_target(reference)
        return weight

    def _weigh_pattern(self, pattern: str) -> SchemaWeight:
        weight = weigh_pattern(pattern)
        if weight is None:
            limit = f"{MAX_PATTERN_BYTES // 1024} KiB"
            message = f"is not a regular expression, or takes more than {limit} once compiled: {pattern[:100]!r}"
            raise InvalidSchema(FieldError(place_of(self.schema, pattern), message))
        if (
            pattern not in self._patterns
        ):  # weighing a pattern takes up to 10 ms: stop at the first one that is too large
            self._patterns.add(pattern)
            self._pattern_bytes += weight.pattern_bytes
            if self._pattern_bytes > MAX_ALL_PATTERNS_BYTES:
                raise patterns_too_heavy()
        return weight

    def _weigh_target(self, reference: str) -> SchemaWeight:
        if reference not in self._by_reference:
            # A cycle is followed once: at run time it continues only as deep as the input.
            self._by_reference[reference] = NOTHING
            self._by_reference[reference] = self._weigh(self._target(reference))
        return self._by_reference[reference]

    def _target(self, reference: str) -> object:
        if not reference.startswith("#/"):
            return self.schema if reference == "#" else self.anchors.get(reference)
        node: object = self.schema
        for step in unquote(reference[2:]).split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = node.get(key)
            else:
                items = children_of(node)
                node = next((item for place, item in enumerate(items) if key == str(place)), None)
        return node


def patterns_of(keywords: JsonObject) -> list[str]:
    """Return the regular expressions of an object, if it is a schema."""
    pattern, by_pattern = keywords.get("pattern"), keywords.get("patternProperties")
    found: list[Any] = [pattern, *(by_pattern if isinstance(by_pattern, dict) else ())]
    return [item for item in found if isinstance(item, str)]


def anchors_in(schema: JsonObject) -> dict[str, JsonObject]:
    """Return the parts of a schema that have an anchor, by the reference to it."""
    found: dict[str, JsonObject] = {}
    left: list[object] = [schema]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            keywords = cast("JsonObject", node)
            for keyword in ("$anchor", "$dynamicAnchor"):
                if isinstance(anchor := keywords.get(keyword), str):
                    found.setdefault(f"#{anchor}", keywords)
        left.extend(children_of(node))
    return found


def place_of(schema: JsonObject, pattern: str) -> str:
    """Return the path of the first keyword that holds a pattern."""
    left: list[tuple[object, Path]] = [(schema, None)]
    while left:
        node, path = left.pop()
        if isinstance(node, dict):
            keywords = cast("JsonObject", node)
            if pattern in patterns_of(keywords):
                keyword = "pattern" if keywords.get("pattern") == pattern else "patternProperties"
                return shown_path((path, keyword))
            left.extend((child, (path, name)) for name, child in keywords.items())
        else:
            left.extend((child, (path, place)) for place, child in enumerate(children_of(node)))
    return ""

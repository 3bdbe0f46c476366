"""Arguments for any tool, built from its JSON Schema so that they match it and fit the story."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from app.demo.studio.reading import as_list, as_object
from app.demo.studio.vocabulary import Draft, plain, suggestion
from app.kit.json_values import JsonObject

MAX_DEPTH = 6
MAX_VALUES = 3_000
MAX_ROWS = 8
USUAL_ROWS = 3
ROWS_OF = {
    "scenes": 8,
    "shots": 5,
    "draftbeats": 5,
    "colors": 4,
    "lines": 4,
    "cues": 4,
    "mixes": 2,
    "items": 2,
}
# Strings to try for a `pattern` or `format` that no word of the story matches.
CANDIDATES = (
    "#0B2239", "#E8A33D", "#F4EBD0", "01:00:10:00", "00:01:10", "01:00:10", "12:30", "EUR", "GBP", "en", "en-GB",
    "2024-03-15", "2024-03-15T09:30:00Z", "1A", "12", "12A", "A", "a", "S01E01", "SC-001", "INT", "scene-1", "scene_1",
    "scene1", "Scene1", "SCENE", "SCENE-1", "1.0.0", "16:9", "2.39:1", "1920x1080", "24", "3.5", "producer@example.org",
    "https://example.org/brief", "example.org", "00000000-0000-4000-8000-000000000001", "0B2239", "abc", "abcdef",
    "ABC123", "0123456789abcdef01234567",
)  # fmt: skip
FORMATS = {
    "date": "2024-03-15",
    "date-time": "2024-03-15T09:30:00Z",
    "time": "09:30:00Z",
    "email": "producer@example.org",
    "uri": "https://example.org/brief",
    "uuid": "00000000-0000-4000-8000-000000000001",
}


@dataclass(frozen=True)
class Builder:
    """Builds values for one schema; its `$ref`s refer to `root`."""

    root: JsonObject
    draft: Draft
    made_so_far: list[None] = field(default_factory=list[None])
    """Grows with every value, so that a recursive schema terminates."""

    def value(self, schema: Any, path: tuple[str, ...] = (), row: int = 0) -> Any:  # noqa: ANN401 - JSON in and out
        """Return a value that the schema accepts, as far as its keywords are understood."""
        wanted = self.resolved(schema)
        self.made_so_far.append(None)
        if "const" in wanted:
            return wanted["const"]
        if len(path) > MAX_DEPTH or len(self.made_so_far) > MAX_VALUES:
            return shallow(type_of(wanted))
        idea = fitted(suggestion(self.draft, path, row), wanted)
        if idea is not None:
            return idea
        examples = as_list(wanted.get("examples"))
        if examples:
            return examples[row % len(examples)]
        choices = as_list(wanted.get("enum"))
        if choices:
            return choices[row % len(choices)]
        if "default" in wanted:
            return wanted["default"]
        return self.made(wanted, path, row)

    def made(self, wanted: JsonObject, path: tuple[str, ...], row: int) -> Any:  # noqa: ANN401 - any JSON value
        """Return a value made from the schema's type and bounds alone."""
        match type_of(wanted):
            case "object":
                return self.an_object(wanted, path, row)
            case "array":
                return self.an_array(wanted, path, row)
            case "integer" | "number" as kind:
                return a_number(wanted, row, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return a_string(wanted, self.draft, path, row)

    def an_object(self, wanted: JsonObject, path: tuple[str, ...], row: int) -> JsonObject:
        """Return the required properties, and the optional ones that the story can fill; all if that leaves nothing."""
        properties = as_object(wanted.get("properties"))
        required = [name for name in as_list(wanted.get("required")) if isinstance(name, str)]
        named = [name for name in properties if name in required or self.knows(properties[name], (*path, name), row)]
        chosen = [*named, *(name for name in required if name not in properties)] or list(properties)[:MAX_ROWS]
        return {name: self.value(properties.get(name, {}), (*path, name), row) for name in chosen}

    def knows(self, schema: Any, path: tuple[str, ...], row: int) -> bool:  # noqa: ANN401 - any JSON Schema
        """Return whether the story has a value for an optional property or for the rows of its list."""
        if len(path) > MAX_DEPTH:
            return False
        wanted = self.resolved(schema)
        if type_of(wanted) == "array":
            item = self.resolved(wanted.get("items", {}))
            fields = as_object(item.get("properties"))
            if fields and all(suggestion(self.draft, (*path, name), row) is not None for name in fields):
                return True
        return fitted(suggestion(self.draft, path, row), wanted) is not None

    def an_array(self, wanted: JsonObject, path: tuple[str, ...], row: int) -> list[Any]:
        """Return a few rows, within the bounds; the rows after the fixed ones of `prefixItems` are of `items`."""
        least, most = bound(wanted, "minItems", 0), bound(wanted, "maxItems", MAX_ROWS)
        usual = ROWS_OF.get(plain(path[-1]) if path else "", USUAL_ROWS) if len(path) < MAX_DEPTH - 2 else 0
        fixed = as_list(wanted.get("prefixItems"))
        items = wanted.get("items", {})
        count = len(fixed) if items is False else int(min(max(usual, least, len(fixed)), max(most, least)))
        is_list_of_lists = type_of(self.resolved(items)) == "array"
        inner = (*path, "") if is_list_of_lists else path
        rows = range(min(count, MAX_VALUES))
        made = [self.value(fixed[place] if place < len(fixed) else items, inner, place) for place in rows]
        return unlike(made) if wanted.get("uniqueItems") else made

    def resolved(self, schema: Any) -> JsonObject:  # noqa: ANN401 - any JSON Schema
        """Resolve a schema: follow its `$ref`, join its `allOf`, and take the first branch of `anyOf` and `oneOf`."""
        wanted = as_object(schema)
        for _ in range(MAX_DEPTH):
            reference = wanted.get("$ref")
            if not isinstance(reference, str):
                break
            rest = {key: value for key, value in wanted.items() if key != "$ref"}
            wanted = {**pointed(self.root, reference), **rest}
        for part in as_list(wanted.get("allOf")):
            wanted = joined(wanted, pointed_part(self.root, part))
        for way in ("anyOf", "oneOf"):
            options = [as_object(option) for option in as_list(wanted.get(way))]
            if options:
                wanted = joined(wanted, pointed_part(self.root, options[0]))
        return wanted


def build_arguments(parameters: Any, draft: Draft) -> JsonObject:  # noqa: ANN401 - any JSON Schema
    """Return arguments for a tool with these parameters."""
    root = as_object(parameters)
    return as_object(Builder(root, draft).value({"type": "object", **root}))


def pointed(root: JsonObject, reference: str) -> JsonObject:
    """Return the target of a local `$ref`; an empty object for any other reference."""
    target: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        target = as_object(target).get(part.replace("~1", "/").replace("~0", "~"))
    return as_object(target) if reference.startswith("#") else {}


def pointed_part(root: JsonObject, part: Any) -> JsonObject:  # noqa: ANN401 - any JSON Schema
    """Return a part of a combined schema with its `$ref` resolved."""
    found = as_object(part)
    reference = found.get("$ref")
    return {**pointed(root, reference), **found} if isinstance(reference, str) else found


def joined(first: JsonObject, second: JsonObject) -> JsonObject:
    """Return the conjunction of two schemas: the properties and requirements of both."""
    properties = {**as_object(first.get("properties")), **as_object(second.get("properties"))}
    required = [*as_list(first.get("required")), *as_list(second.get("required"))]
    left_out = ("allOf", "anyOf", "oneOf", "$ref")
    both = {key: value for key, value in {**second, **first}.items() if key not in left_out}
    return {
        **both,
        **({"properties": properties} if properties else {}),
        **({"required": required} if required else {}),
    }


def type_of(schema: JsonObject) -> str:
    """Return the first type of a schema that is not null, or the type that its keywords imply."""
    named = schema.get("type")
    if isinstance(named, list):
        named = next((kind for kind in named if kind != "null"), "null")
    if isinstance(named, str):
        return named
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema or "minItems" in schema:
        return "array"
    return "number" if {"minimum", "maximum", "exclusiveMinimum", "multipleOf"} & set(schema) else "string"


def shallow(kind: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the minimal value of a type."""
    least: JsonObject = {"object": {}, "array": [], "integer": 0, "number": 0, "boolean": False, "null": None}
    return least.get(kind, "")


def bound(schema: JsonObject, name: str, otherwise: float) -> float:
    """Return a numeric keyword of a schema."""
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def fitted(idea: Any, schema: JsonObject) -> Any:  # noqa: ANN401 - any JSON value
    """Return an idea adapted to the schema, or `None` if that is impossible."""
    kind = type_of(schema)
    choices = as_list(schema.get("enum"))
    if idea is None or (choices and idea not in choices):
        return None
    if kind == "string" and isinstance(idea, str):
        return fitted_text(idea, schema)
    if kind in ("integer", "number") and isinstance(idea, int | float) and not isinstance(idea, bool):
        whole = kind == "integer"
        number = round(idea) if whole else idea
        return (
            number if number == within(number, schema, whole=whole) or choices else within(number, schema, whole=whole)
        )
    if kind == "array" and isinstance(idea, list):
        return fitted_list(idea, schema)
    return None


def fitted_text(idea: str, schema: JsonObject) -> str | None:
    """Return a text cut to the maximum length, or `None` if it is too short or has another form."""
    text = idea[: int(bound(schema, "maxLength", 200_000))].rstrip()
    if len(text) < bound(schema, "minLength", 0) or not matches(schema.get("pattern"), text):
        return None
    wanted = schema.get("format")
    return None if isinstance(wanted, str) and wanted in FORMATS else text


def fitted_list(idea: list[Any], schema: JsonObject) -> list[Any] | None:
    """Return a list cut to the maximum of items, or `None` if it is too short or its items do not fit."""
    rows = idea[: int(bound(schema, "maxItems", len(idea)))]
    item = as_object(schema.get("items"))
    fits = [fitted(entry, item) for entry in rows] if item else rows
    return None if len(fits) < bound(schema, "minItems", 0) or None in fits else fits


def within(number: float, schema: JsonObject, *, whole: bool) -> float:
    """Return the number, moved into the schema's bounds and on to its step."""
    step = bound(schema, "multipleOf", 1 if whole else 0)
    least, most = bound(schema, "minimum", -math.inf), bound(schema, "maximum", math.inf)
    nudge = step or 0.001
    least = max(least, bound(schema, "exclusiveMinimum", -math.inf) + nudge)
    most = min(most, bound(schema, "exclusiveMaximum", math.inf) - nudge)
    moved = min(max(number, least), most)
    if step:
        moved = math.floor(moved / step) * step
        moved = moved + step if moved < least else moved
    return int(moved) if whole or (isinstance(number, int) and float(moved).is_integer()) else round(moved, 6)


def a_number(schema: JsonObject, row: int, *, whole: bool) -> float:
    """Return a number slightly above the minimum, different in every row."""
    least = bound(schema, "minimum", bound(schema, "exclusiveMinimum", 0))
    most = bound(schema, "maximum", bound(schema, "exclusiveMaximum", least + 100))
    span = most - least
    start = least + (span * 2 / 5 if 0 < span <= 1_000 else 10)
    number = start + row * max(bound(schema, "multipleOf", 1), 1)
    return within(int(number) if whole else round(number, 2), schema, whole=whole)


def a_string(schema: JsonObject, draft: Draft, path: tuple[str, ...], row: int) -> str:
    """Return a string of the schema's form and length: a known form, or words of the story with the row's number."""
    wanted, pattern = schema.get("format"), schema.get("pattern")
    if isinstance(wanted, str) and wanted in FORMATS:
        return FORMATS[wanted]
    if isinstance(pattern, str):
        fits = [text for text in CANDIDATES if fitted_text(text, {**schema, "format": None}) is not None]
        return fits[row % len(fits)] if fits else CANDIDATES[0]
    subject = path[-1] if path else "note"
    text = f"{draft.premise.motifs[row % 3].capitalize()}, {spaced(subject)} {row + 1}"
    least, most = int(bound(schema, "minLength", 0)), int(bound(schema, "maxLength", 10_000))
    if len(text) < least:
        text = f"{text}: {draft.premise.logline}"
        text = (text * (least // len(text) + 1))[: max(least, len(text))]
    return text[:most]


def spaced(name: str) -> str:
    """Return a camelCase or snake_case name as words."""
    return re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)).lower().strip()


def matches(pattern: Any, text: str) -> bool:  # noqa: ANN401 - any JSON value
    """Return whether a text matches a schema's pattern; an invalid pattern matches nothing."""
    if not isinstance(pattern, str):
        return True
    try:
        return re.search(pattern, text) is not None
    except (re.error, RecursionError, OverflowError):
        return False


def unlike(rows: list[Any]) -> list[Any]:
    """Return the rows without repetitions."""
    kept: list[Any] = []
    for row in rows:
        if row not in kept:
            kept.append(row)
    return kept

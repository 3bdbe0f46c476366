"""JSON schemas in the subsets that providers accept.

Each function returns a schema that allows at least what the given one does: the service itself validates tools' inputs
and structured answers, so a provider does not have to see every constraint.
"""

import json
from collections.abc import Callable
from typing import Any

from app.kit.json_values import JsonObject

MAX_DEPTH = 24
SUBSCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SCHEMA_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
ROOT_COMBINATIONS = ("anyOf", "oneOf", "allOf")
NOT_AT_THE_ROOT = (*ROOT_COMBINATIONS, "enum", "const", "not", "if", "then", "else", "$ref", "dependentSchemas")
BOUNDS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "prefixItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "if",
    "then",
    "else",
    "not",
    "default",
    "examples",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
)
"""Keywords that strict structured output refuses; they are moved into the description."""
GEMINI_KEYWORDS = frozenset(
    {
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "items",
        "maxItems",
        "minItems",
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "minLength",
        "maxLength",
        "pattern",
        "anyOf",
        "minimum",
        "maximum",
    }
)
GEMINI_FORMATS = frozenset({"enum", "date-time", "int32", "int64", "float", "double"})

Change = Callable[[JsonObject], JsonObject]


def everywhere(schema: Any, change: Change, depth: int = 0) -> Any:  # noqa: ANN401 - a schema may be `true`
    """Return a schema with a change applied to it and to every nested schema, the innermost first."""
    if not isinstance(schema, dict):
        return schema
    if depth > MAX_DEPTH:
        return {}
    inner = dict(schema)
    for name in SUBSCHEMAS:
        if isinstance(inner.get(name), dict):
            inner[name] = everywhere(inner[name], change, depth + 1)
    for name in SCHEMA_LISTS:
        if isinstance(inner.get(name), list):
            inner[name] = [everywhere(item, change, depth + 1) for item in inner[name]]
    for name in SCHEMA_MAPS:
        if isinstance(inner.get(name), dict):
            inner[name] = {key: everywhere(item, change, depth + 1) for key, item in inner[name].items()}
    return change(inner)


def inlined(schema: JsonObject) -> JsonObject:
    """Return a schema without references; a recursive reference allows anything."""
    return {name: value for name, value in _inlined(schema, schema, ()).items() if name not in {"$defs", "definitions"}}


def _inlined(value: Any, root: JsonObject, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - any part of a schema
    if isinstance(value, list):
        return [_inlined(item, root, path) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str):
        if reference in path or len(path) > MAX_DEPTH:
            return {}
        found = resolved(root, reference)
        beside = {name: item for name, item in value.items() if name != "$ref"}
        target = _inlined(found, root, (*path, reference)) if isinstance(found, dict) else {}
        return {**target, **_inlined(beside, root, path)}
    return {name: item if name in {"enum", "const"} else _inlined(item, root, path) for name, item in value.items()}


def resolved(root: JsonObject, reference: str) -> object:
    """Return the target of a reference within a schema; `None` if it does not exist or is outside the schema."""
    if not reference.startswith("#"):
        return None
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found


def parameters_of(schema: object) -> JsonObject | None:
    """Return a tool's input schema as one object with named properties; `None` if it is not an object's.

    OpenAI and Anthropic refuse combinations at the root: their branches become one object that allows each.
    """
    if schema is None or schema == {}:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        schema = inlined(schema)
    merged = merged_root(schema)
    kinds = merged.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        return None
    properties = merged.get("properties")
    merged |= {"type": "object", "properties": properties if isinstance(properties, dict) else {}}
    required = merged.get("required")
    if required is not None:
        named = [name for name in required if name in merged["properties"]] if isinstance(required, list) else []
        merged["required"] = named
    return merged


def merged_root(schema: JsonObject, depth: int = 0) -> JsonObject:
    """Return a schema with the combinations at its root merged into it."""
    if not any(name in schema for name in NOT_AT_THE_ROOT):
        return dict(schema)
    merged = {name: value for name, value in schema.items() if name not in NOT_AT_THE_ROOT}
    properties: JsonObject = dict(merged.get("properties") or {})
    required: set[str] = set(merged.get("required") or ())
    for name in ROOT_COMBINATIONS if depth < MAX_DEPTH else ():
        branches = [merged_root(item, depth + 1) for item in schema.get(name) or () if isinstance(item, dict)]
        for branch in branches:
            for key, value in (branch.get("properties") or {}).items():
                properties[key] = either(properties[key], value) if key in properties else value
            merged.setdefault("type", branch.get("type", "object"))
        demanded = [set(branch.get("required") or ()) for branch in branches]
        if demanded:
            required |= set.union(*demanded) if name == "allOf" else set.intersection(*demanded)
        if any("additionalProperties" in branch for branch in branches):
            merged.pop("additionalProperties", None)
    merged |= {"properties": properties, "required": sorted(required)}
    return merged


def either(first: Any, second: Any) -> Any:  # noqa: ANN401 - a schema may be `true`
    """Return a schema that allows what either of two schemas allows."""
    if first == second:
        return first
    known = first["anyOf"] if isinstance(first, dict) and first.keys() == {"anyOf"} else [first]
    return {"anyOf": known if second in known else [*known, second]}


def for_gemini(schema: JsonObject) -> JsonObject:
    """Return a schema in the subset of OpenAPI that Gemini takes."""
    return everywhere(inlined(schema), gemini_keywords)


def gemini_keywords(schema: JsonObject) -> JsonObject:
    """One level of a schema in Gemini's subset."""
    changed = gemini_type({**schema, "enum": [schema["const"]]} if "const" in schema else dict(schema))
    for name in ("oneOf", "allOf"):
        if isinstance(changed.get(name), list):
            changed["anyOf"] = [*(changed.get("anyOf") or ()), *changed[name]]
    branches = [item for item in changed.get("anyOf") or () if isinstance(item, dict)]
    if branches:
        return {**{name: changed[name] for name in ("description", "nullable") if name in changed}, "anyOf": branches}
    if changed.get("format") not in GEMINI_FORMATS:
        changed.pop("format", None)
    values = [str(value) for value in changed.pop("enum", None) or () if value not in ("", None)]
    if values:
        changed |= {"type": "string", "enum": values}
    if changed.get("type") == "array" and not isinstance(changed.get("items"), dict):
        changed["items"] = {"type": "string"}
    return {name: value for name, value in changed.items() if name in GEMINI_KEYWORDS}


def gemini_type(schema: JsonObject) -> JsonObject:
    """Return a schema whose `type` is a single name: several types become branches, and `null` becomes `nullable`."""
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return schema
    rest = [kind for kind in kinds if kind != "null"]
    changed: JsonObject = {**schema, "type": rest[0] if rest else "string"}
    if "null" in kinds:
        changed["nullable"] = True
    if len(rest) > 1:
        changed["anyOf"] = [{"type": kind} for kind in rest]
    return changed


def plain(schema: JsonObject) -> JsonObject:
    """Return a schema of types, properties and descriptions only, for providers that refuse the original."""
    kept = frozenset({"type", "properties", "required", "items", "description", "enum"})
    return everywhere(inlined(schema), lambda one: {name: value for name, value in one.items() if name in kept})


def strict(schema: JsonObject) -> JsonObject | None:
    """Return a schema for strict structured output, with closed objects only; `None` if an object is open by design."""
    whole = inlined(schema)
    return None if is_open(whole) else everywhere(whole, closed)


def is_open(schema: Any) -> bool:  # noqa: ANN401 - a schema may be `true`
    """Return whether an object of a schema may have properties that it does not name."""
    if isinstance(schema, list):
        return any(map(is_open, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "object" and not schema.get("properties"):
        return True
    if isinstance(schema.get("additionalProperties"), dict) or schema.get("additionalProperties") is True:
        return True
    inside = [schema.get(name) for name in (*SUBSCHEMAS, *SCHEMA_LISTS)]
    return any(map(is_open, inside)) or any(map(is_open, (schema.get("properties") or {}).values()))


def closed(schema: JsonObject) -> JsonObject:
    """One level of a schema with closed objects, and bounds moved to the description."""
    bounds = [f"{name}: {json.dumps(schema[name])}" for name in BOUNDS if name in schema]
    if "minimum" in schema and "maximum" in schema:
        bounds[:2] = [f"{json.dumps(schema['minimum'])} to {json.dumps(schema['maximum'])}"]
    changed = {name: value for name, value in schema.items() if name not in BOUNDS}
    if "oneOf" in changed:
        changed["anyOf"] = [*(changed.get("anyOf") or ()), *changed.pop("oneOf")]
    if bounds:
        said = str(changed.get("description") or "").strip()
        changed["description"] = " ".join(filter(None, (said, f"({'; '.join(bounds)})")))
    kinds = changed.get("type")
    if kinds == "object" or "properties" in changed or (isinstance(kinds, list) and "object" in kinds):
        changed["additionalProperties"] = False
    return changed


def demands_all(schema: Any) -> bool:  # noqa: ANN401 - a schema may be `true`
    """Return whether every object of a schema requires all its properties, as OpenAI's strict mode demands."""
    if isinstance(schema, list):
        return all(map(demands_all, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties") or {}
    if set(properties) != set(schema.get("required") or ()):
        return False
    inside = [schema.get(name) for name in (*SUBSCHEMAS, *SCHEMA_LISTS)]
    return all(map(demands_all, inside)) and all(map(demands_all, properties.values()))

"""JSON that means one thing: the limits of every JSON text and text that a client sends, checked in linear time.

JSON as Python reads it takes `NaN`, the last of two equal keys, lone surrogates and integers of any length. Each of
these fails in MongoDB, in JavaScript or at another client, so a text that holds one is refused with the path of every
such value. Paths are built for problems only: a check costs time in proportion to the text, whatever its shape.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any

from app.errors import MAX_PROBLEMS, AppError, FieldError, InvalidInput
from app.kit.json_limits import MAX_INTEGER, MAX_NESTING, JsonObject

CONTAINERS = (dict, list)
TOO_DEEP = f"is nested deeper than {MAX_NESTING} levels"
MAX_STEP_CHARACTERS = 100
"""How much of a key is quoted in the path of a problem."""
MAX_INTEGER_DIGITS = 40
BEYOND_ALL_INTEGERS = 2**64
"""Stands for an integer of more than 40 digits, which is not converted."""

Path = tuple["Path", str | int] | None
"""Where a value is: the path of what it is in, and its key or place in that."""


class MalformedJson(AppError):
    """The text is not JSON in UTF-8."""

    code = "malformed-json"
    status = HTTPStatus.BAD_REQUEST


def parse_json_bytes(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text in UTF-8.

    Raises:
        MalformedJson: it is not JSON, or not UTF-8.
        InvalidInput: it is JSON that does not mean one storable value; at most 50 problems are named.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    return parse_json(text)


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text.

    Raises:
        MalformedJson: it is not JSON.
        InvalidInput: it is JSON that does not mean one storable value; at most 50 problems are named.
    """
    pairs = UniqueKeys()
    try:
        value = loads(text, pairs)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"The body is not valid JSON at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise InvalidInput.of_field("body", TOO_DEEP) from None
    if problems := list(islice(find_problems(value, pairs), MAX_PROBLEMS)):
        raise InvalidInput.of_fields(problems)
    return value


def loads(text: str, pairs: "UniqueKeys") -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text, read a second time where Python refuses to convert an integer for its length."""
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, object_pairs_hook=pairs, parse_int=bounded_integer)


def bounded_integer(digits: str) -> int:
    """An integer; one of very many digits as a number that is too large as well."""
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else BEYOND_ALL_INTEGERS


class UniqueKeys:
    """Makes objects of pairs, and remembers those that had a key twice."""

    def __init__(self) -> None:
        self._repeated: dict[int, tuple[JsonObject, list[str]]] = {}  # holds each object, so that its id stays its own

    def __call__(self, pairs: list[tuple[str, Any]]) -> JsonObject:
        """The object of some pairs."""
        found = dict(pairs)
        if len(found) < len(pairs) and len(self._repeated) < MAX_PROBLEMS:
            self._repeated[id(found)] = found, repeated(name for name, _ in pairs)
        return found

    def repeated_in(self, found: JsonObject) -> list[str]:
        """The keys that an object was given more than once."""
        return self._repeated[id(found)][1] if id(found) in self._repeated else []


def repeated(names: Iterable[str]) -> list[str]:
    """The names that come more than once, each once, at most 50 of them."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for name in names:
        if name in seen:
            twice[name] = None
            if len(twice) == MAX_PROBLEMS:
                break
        seen.add(name)
    return list(twice)


def find_problems(
    root: Any,  # noqa: ANN401 - any JSON value
    pairs: UniqueKeys | None = None,
    root_path: Path = None,
) -> Iterator[FieldError]:
    """Everything in a value that cannot be stored or means two things, containers before what they hold."""
    if problem := problem_with(root):
        yield FieldError(shown_path(root_path), problem)
    left: deque[tuple[Any, Path, int]] = deque([(root, root_path, 1)] if isinstance(root, CONTAINERS) else [])
    while left:
        node, path, depth = left.popleft()
        if depth > MAX_NESTING:
            yield FieldError(shown_path(path), TOO_DEEP)
            continue
        if isinstance(node, dict):
            yield from problems_with_keys(node, path, pairs)
        for step, item in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(item, CONTAINERS):
                left.append((item, (path, step), depth + 1))
            elif problem := problem_with(item):
                yield FieldError(shown_path((path, step)), problem)


def problems_with_keys(node: JsonObject, path: Path, pairs: UniqueKeys | None) -> Iterator[FieldError]:
    """The keys of an object that cannot be stored, or that it was given twice."""
    for name in pairs.repeated_in(node) if pairs else []:
        yield FieldError(shown_path((path, name)), "is given twice")
    for key in node:
        if problem := text_problem(key):
            yield FieldError(shown_path(path), f"has a key that {problem}")


def problem_with(value: object) -> str | None:
    """Why a value that is no container cannot be stored, or `None`."""
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, float):
        return None if value - value == 0 else "is NaN, an infinity, or a number beyond all doubles"
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        return "is an integer beyond 2^53"
    return None


def text_problem(text: str) -> str | None:
    """Why a text cannot be stored, or `None`."""
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair"
    return None


def shown_path(path: Path) -> str:
    """The dotted path of a value, each step cut to 100 characters; `body` for the value itself."""
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(shown(str(step)))
    return ".".join(reversed(steps)) or "body"


def shown(text: str) -> str:
    """A client's text, short and harmless enough to be quoted."""
    return text[:MAX_STEP_CHARACTERS].encode("utf-8", "replace").decode().replace("\0", "?")

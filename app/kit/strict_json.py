"""Strict JSON: unambiguous, within the limits of every client, and checked in linear time.

Python's parser accepts `NaN`, duplicate keys, lone surrogates and integers of any length. Each of these fails in
MongoDB, JavaScript or another client, so a text that contains one is refused with the path of every such value. Paths
are built for problems only, so the time of a check is proportional to the text.
"""

import json
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from http import HTTPStatus
from itertools import islice
from json import scanner
from math import isfinite
from typing import Any

from app.errors import MAX_PROBLEMS, AppError, FieldError, InvalidInput
from app.kit.json_limits import MAX_INTEGER, MAX_NESTING, MAX_VALUES, JsonObject

CONTAINERS = (dict, list)
SIMPLE = (str, int, float, bool, type(None))
TOO_DEEP = f"is nested deeper than {MAX_NESTING} levels"
TOO_MANY = f"has more than {MAX_VALUES:,} values"
MAX_INTEGER_DIGITS = 40
DIGITS_AS_ZEROS = bytes(ord("0" if chr(byte) in "0123456789" else " ") for byte in range(256))
LONG_INTEGER = b"0" * (MAX_INTEGER_DIGITS + 1)
STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string in JSON, which also matches one that does not end: no character is visited twice."""
STRINGS = re.compile(r'(?:[^"]*+"(?:[^"\\]++|\\.)*+"?){1,1000}+', re.DOTALL)
"""Up to a thousand strings in JSON, each with the text before it."""
MAX_STEP_CHARACTERS = 100
"""The number of characters of a key that the path of a problem quotes."""
MAX_VALUES_AT_ONCE = 7_000
"""Up to this many values are parsed by C, which no other thread can interrupt: about 3 ms."""
BEYOND_ALL_INTEGERS = 2**64
"""Replaces an integer of more than 40 digits, which is not converted."""

Path = tuple["Path", str | int] | None
"""The path of a value: the path of its container, and its key or index in there."""


class MalformedJson(AppError):
    """The text is not JSON in UTF-8."""

    code = "malformed-json"
    status = HTTPStatus.BAD_REQUEST


def parse_json_bytes(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON in UTF-8.

    Raises:
        MalformedJson: the text is not JSON, or not UTF-8.
        InvalidInput: the value is ambiguous or cannot be stored; at most 50 problems are listed.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    return parse_json(text)


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON.

    Raises:
        MalformedJson: the text is not JSON.
        InvalidInput: the value is ambiguous or cannot be stored; at most 50 problems are listed.
    """
    if not text.strip():
        raise MalformedJson("The body is empty. Send a JSON value.")
    if has_too_many_values(text):
        raise InvalidInput.of_field("body", TOO_MANY)
    pairs = UniqueKeys()
    try:
        value = loads(text, pairs)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"The body is not valid JSON at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise InvalidInput.of_field("body", TOO_DEEP) from None
    problems = list(islice(find_problems(value, pairs), MAX_PROBLEMS))
    pairs.forget()
    if problems:
        raise InvalidInput.of_fields(problems)
    return value


def has_too_many_values(text: str) -> bool:
    """Return whether a text has more values than a client may send, without building them."""
    if count_marks(text) <= MAX_VALUES:
        return False
    count = end = 0
    while count <= MAX_VALUES and (found := STRINGS.match(text, end)):
        count += count_marks(STRING.sub("", found[0]))
        end = found.end()
    return count + count_marks(text[end:]) > MAX_VALUES


def count_marks(text: str) -> int:
    """Count the characters that begin a value inside another: there are about as many as values."""
    return text.count("[") + text.count("{") + text.count(",")


class InterruptibleDecoder(json.JSONDecoder):
    """Python's decoder with its scanner in Python: three to six times slower, but other threads can run meanwhile."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the options of the base class
        super().__init__(**options)
        self.scan_once = scanner.py_make_scanner(self)  # pyright: ignore - unknown to the stubs


def loads(text: str, pairs: "UniqueKeys") -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON, without converting long integers: the time that takes grows with the square of their digits."""
    has_long_integer = LONG_INTEGER in text.encode("utf-8", "replace").translate(DIGITS_AS_ZEROS)
    decoder = InterruptibleDecoder if count_marks(text) > MAX_VALUES_AT_ONCE else json.JSONDecoder
    return json.loads(
        text, cls=decoder, object_pairs_hook=pairs, parse_int=bounded_integer if has_long_integer else None
    )


def bounded_integer(digits: str) -> int:
    """Convert an integer; one with too many digits becomes another number beyond the limit."""
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else BEYOND_ALL_INTEGERS


class UniqueKeys:
    """Builds objects from pairs, and records those with duplicate keys."""

    def __init__(self) -> None:
        self._repeated: dict[
            int, tuple[JsonObject, list[str]]
        ] = {}  # keeps each object alive, so that its id stays unique

    def __call__(self, pairs: list[tuple[str, Any]]) -> JsonObject:
        """Build the object of some pairs."""
        found = dict(pairs)
        if len(found) < len(pairs) and len(self._repeated) < MAX_PROBLEMS:
            self._repeated[id(found)] = found, repeated(name for name, _ in pairs)
        return found

    def repeated_in(self, found: JsonObject) -> list[str]:
        """Return the duplicate keys of an object."""
        return self._repeated[id(found)][1] if id(found) in self._repeated else []

    def forget(self) -> None:
        """Release the objects: the decoder is part of a reference cycle, which would keep them alive for long."""
        self._repeated.clear()


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, at most 50."""
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
    """Yield every problem in a value, containers before their contents."""
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
        if are_storable(node.values() if isinstance(node, dict) else node):
            continue
        for step, item in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(item, CONTAINERS):
                left.append((item, (path, step), depth + 1))
            elif problem := problem_with(item):
                yield FieldError(shown_path((path, step)), problem)


def references_in(value: Any, path: Path) -> Iterator[FieldError]:  # noqa: ANN401 - any JSON value
    """Yield the objects that MongoDB's drivers would read back as a reference to another document."""
    left: list[tuple[Any, Path]] = [(value, path)] if isinstance(value, CONTAINERS) else []
    while left:
        node, path = left.pop()
        if isinstance(node, dict) and "$id" in node and isinstance(node.get("$ref"), str):
            message = "has $ref and $id in one object, which MongoDB takes for a reference"
            yield FieldError(shown_path(path), message)
        for step, item in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(item, CONTAINERS):
                left.append((item, (path, step)))


def problems_with_keys(node: JsonObject, path: Path, pairs: UniqueKeys | None) -> Iterator[FieldError]:
    """Yield the problems of an object's keys."""
    for name in pairs.repeated_in(node) if pairs else []:
        yield FieldError(shown_path((path, name)), "is given twice")
    if are_storable(node.keys()):
        return
    for key in node:
        if problem := text_problem(key):
            yield FieldError(shown_path(path), f"has a key that {problem}")


def are_storable(values: Collection[Any]) -> bool:
    """Return whether values are all simple and can be stored, much faster than one by one; `False` if in doubt."""
    for kind in set(map(type, values)):
        if kind not in SIMPLE:
            return False
        if kind is str:
            text = "".join(value for value in values if type(value) is str)
            if not text.isascii() or "\0" in text:
                return False
        elif kind is float:
            if not all(isfinite(value) for value in values if type(value) is float):
                return False
        elif kind is int:
            numbers = [value for value in values if type(value) is int]
            if min(numbers) < -MAX_INTEGER or max(numbers) > MAX_INTEGER:
                return False
    return True


def problem_with(value: object) -> str | None:
    """Return why a value other than a container cannot be stored, or `None`."""
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, float):
        return None if value - value == 0 else "is NaN, an infinity, or a number beyond the range of doubles"
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        return "is an integer beyond 2^53"
    return None


def text_problem(text: str) -> str | None:
    """Return why a text cannot be stored, or `None`."""
    if "\0" in text:
        return "contains a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains half of a surrogate pair"
    return None


def shown_path(path: Path) -> str:
    """Return the dotted path of a value, each step cut to 100 characters; the root is `body`."""
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(shown(str(step)))
    return ".".join(reversed(steps)) or "body"


def shown(text: str) -> str:
    """Shorten and clean a client's text so that it can be quoted."""
    return text[:MAX_STEP_CHARACTERS].encode("utf-8", "replace").decode().replace("\0", "?")

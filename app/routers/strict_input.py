"""Strict input for every route: JSON that means one thing, query parameters that exist, nothing beyond.

JSON as browsers and Python read it takes `NaN`, the last of two equal keys, half surrogates and integers of any length.
All of these fail somewhere behind the API, so they are refused in front of it.
"""

import json
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from app.dependencies import ROLE_CHECKS, any_caller, identify
from app.errors import AppError, FieldError, InvalidInput
from app.models.json_values import JsonObject

MAX_NESTING = 32
MAX_INTEGER = 2**53
MAX_NUMBER_CHARACTERS = 40
STARLETTE_PARSED_BODY = "_json"
"""Where Starlette's request keeps the parsed body: what it finds there it does not parse again."""
JSON_TYPE = "application/json"
PATCH_TYPES = (JSON_TYPE, "application/merge-patch+json")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class MalformedJson(AppError):
    """The body is not JSON in UTF-8."""

    code = "malformed-json"
    status = HTTPStatus.BAD_REQUEST


class UnsupportedMediaType(AppError):
    """The body is announced as something else than JSON."""

    code = "unsupported-media-type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class StrictRoute(APIRoute):
    """A route that reads its body and its query strictly, from whoever may use it at all."""

    def get_route_handler(self) -> Handler:
        """The handler, behind the checks."""
        handle = super().get_route_handler()
        parameters = get_flat_params(self.dependant)
        known = {parameter.alias for parameter in parameters if isinstance(parameter.field_info, Query)}
        has_body = self.body_field is not None
        calls = list(calls_of(self.dependant))
        identifies, checks = any_caller in calls, [check for check in ROLE_CHECKS if check in calls]

        async def handle_strictly(request: Request) -> Response:
            if identifies:  # who may not come in learns nothing of what is wrong with the rest
                caller = await identify(request)
                for check in checks:
                    await check(caller)
            check_query(request, known)
            if has_body:
                await read_body(request)
            return await handle(request)

        return handle_strictly


def calls_of(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    """The functions that a route depends on, at any depth."""
    for one in dependant.dependencies:
        yield one.call
        yield from calls_of(one)


def check_query(request: Request, known: set[str]) -> None:
    """Refuse query parameters that the route does not have, and those given twice.

    Raises:
        InvalidInput: one of them is; each is named.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    errors = [FieldError(shown(name), "is not a parameter of this route") for name in names if name not in known]
    errors += [FieldError(name, "is given twice") for name in sorted(known) if names.count(name) > 1]
    errors += [
        FieldError(name, problem)
        for name, value in request.query_params.multi_items()
        if name in known and (problem := text_problem(value))
    ]
    if errors:
        raise InvalidInput(f"{errors[0].path}: {errors[0].message}", errors=tuple(errors))


async def read_body(request: Request) -> None:
    """Parse the body strictly; what the framework reads afterwards is this very value.

    Raises:
        UnsupportedMediaType, MalformedJson, InvalidInput: it cannot be used, and why.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if media_type not in (PATCH_TYPES if request.method == "PATCH" else (JSON_TYPE,)):
        raise UnsupportedMediaType(f"Send the body as {JSON_TYPE}, not as {shown(media_type) or 'nothing at all'}.")
    setattr(request, STARLETTE_PARSED_BODY, parse_strictly(body))


def parse_strictly(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text in UTF-8.

    Raises:
        MalformedJson: it is no JSON, or not UTF-8.
        InvalidInput: it is JSON that does not mean one storable thing.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    if nesting_of(text) > MAX_NESTING:
        raise InvalidInput.of_field("body", f"is nested deeper than {MAX_NESTING} levels")
    try:
        value = json.loads(
            text,
            object_pairs_hook=unique_keys,
            parse_constant=refuse_constant,
            parse_int=bounded_integer,
            parse_float=finite_float,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise MalformedJson(f"The body is not valid JSON{where}.") from None
    if problem := find_text_problem(value, ""):
        raise InvalidInput.of_field(*problem)
    return value


def nesting_of(text: str) -> int:
    """How deep brackets nest outside strings, without recursion."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def unique_keys(pairs: list[tuple[str, Any]]) -> JsonObject:
    """An object whose keys stand there once each."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput.of_field(shown(twice), "stands there twice")
    return found


def refuse_constant(name: str) -> float:
    """`NaN` and the infinities are not JSON."""
    raise InvalidInput.of_field("body", f"holds {name}, which JSON does not have")


def bounded_integer(digits: str) -> int:
    """An integer that JavaScript and MongoDB can hold."""
    if len(digits) > MAX_NUMBER_CHARACTERS or abs(int(digits)) > MAX_INTEGER:
        raise InvalidInput.of_field("body", "holds an integer beyond 2^53")
    return int(digits)


def finite_float(digits: str) -> float:
    """A number that is not beyond all doubles."""
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise InvalidInput.of_field("body", "holds a number beyond all bounds")
    return value


def find_text_problem(value: Any, path: str) -> tuple[str, str] | None:  # noqa: ANN401 - any JSON value
    """The first text, key or value, that cannot be stored: its path, and why."""
    match value:
        case str():
            problem = text_problem(value)
            return (path or "body", problem) if problem else None
        case dict():
            for key, item in value.items():
                if problem := text_problem(key):
                    return path or "body", f"has a key that {problem}"
                if found := find_text_problem(item, f"{path}.{key}" if path else key):
                    return found
        case list():
            for place, item in enumerate(value):
                if found := find_text_problem(item, f"{path}.{place}" if path else str(place)):
                    return found
        case _:
            pass
    return None


def text_problem(text: str) -> str | None:
    """Why a text cannot be stored."""
    if "\0" in text:
        return "holds a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair"
    return None


def shown(text: str) -> str:
    """A client's text, short and harmless enough to be quoted."""
    return text.encode("ascii", "replace").decode()[:100]

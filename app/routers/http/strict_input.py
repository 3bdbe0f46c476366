"""Strict input for every route: unambiguous JSON, and only query parameters that exist.

Every check takes linear time, and large inputs are checked in a thread.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator
from http import HTTPStatus
from typing import Any, get_args

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.dependencies import (
    ROLE_CHECKS,
    address_of,
    any_caller,
    follower,
    identify,
    identify_follower,
    stream_key,
)
from app.errors import MAX_PROBLEMS, AppError, FieldError, InvalidInput
from app.kit.check_thread import in_check_thread_for
from app.kit.strict_json import parse_json_bytes, repeated, shown, text_problem
from app.models.api_key import Role
from app.services.access.authenticator import require

MAX_INLINE_BYTES = 16 * 1024
"""Larger bodies are parsed in a thread: one of 16 KiB takes at most about 3 ms, whatever its shape."""
STARLETTE_PARSED_BODY = "_json"
"""Where Starlette's request caches the parsed body, so that it does not parse it again."""
JSON_TYPE = "application/json"
PATCH_TYPES = (JSON_TYPE, "application/merge-patch+json")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class UnsupportedMediaType(AppError):
    """The body is declared as something other than JSON."""

    code = "unsupported-media-type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class StrictRoute(APIRoute):
    """A route that reads its body and its query strictly, after it has authorized the caller."""

    def get_route_handler(self) -> Handler:
        """Return the handler, behind the checks."""
        handle = super().get_route_handler()
        parameters = get_flat_params(self.dependant)
        known = {parameter.alias for parameter in parameters if isinstance(parameter.field_info, Query)}
        has_body = self.body_field is not None
        models = list(models_in(self.body_field.field_info.annotation)) if self.body_field else []
        calls = list(calls_of(self.dependant))
        follows, identifies = follower in calls, any_caller in calls
        checks = [check for check in ROLE_CHECKS if check in calls]

        async def handle_strictly(request: Request) -> Response:
            if follows:
                require(await identify_follower(request), Role.VIEWER)
            if identifies:  # a caller without access must not learn what else is wrong
                caller = await identify(request)
                for check in checks:
                    await check(caller)
            check_query(request, known)
            if has_body:
                refuse_unknown_fields(await read_body(request), models)
            return await handle(request)

        return handle_strictly


def calls_of(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    """Yield the functions that a route depends on, at any depth."""
    for one in dependant.dependencies:
        yield one.call
        yield from calls_of(one)


def check_query(request: Request, known: set[str]) -> None:
    """Refuse unknown and duplicate query parameters.

    Raises:
        InvalidInput: there are any; the error names each.
    """
    given = request.query_params.multi_items()
    names = [name for name, _ in given]
    errors = [FieldError(shown(name), "is not a parameter of this route") for name in names if name not in known]
    errors += [FieldError(name, "is given twice") for name in sorted(known.intersection(repeated(names)))]
    errors += [FieldError(name, problem) for name, value in given if name in known and (problem := text_problem(value))]
    if errors:
        raise InvalidInput.of_fields(errors)


async def read_body(request: Request) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of the body, parsed strictly; the framework then uses this same value.

    Raises:
        UnsupportedMediaType, MalformedJson, InvalidInput: it cannot be used, and why.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if media_type not in (PATCH_TYPES if request.method == "PATCH" else (JSON_TYPE,)):
        raise UnsupportedMediaType(f"Send the body as {JSON_TYPE}, not as {shown(media_type) or 'nothing at all'}.")
    if len(body) <= MAX_INLINE_BYTES:
        value = parse_json_bytes(body)
    else:
        caller = getattr(request.state, "caller", None)  # not set on routes that need no credentials
        key = stream_key(caller, request) if caller else address_of(request)
        value = await in_check_thread_for(key, parse_json_bytes, body)
    setattr(request, STARLETTE_PARSED_BODY, value)
    return value


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - any type annotation
    """Yield the models that a type annotation names, at any depth of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def refuse_unknown_fields(value: Any, models: Iterable[type[BaseModel]]) -> None:  # noqa: ANN401 - any JSON value
    """Refuse an object with too many unknown fields before pydantic reports every one of them.

    Raises:
        InvalidInput: there are too many; the error names the first 50.
    """
    if not isinstance(value, dict):
        for item in value if isinstance(value, list) else ():
            refuse_unknown_fields(item, models)
        return
    fields = {field.alias or name: field for model in models for name, field in model.model_fields.items()}
    unknown = [name for name in value if name not in fields]
    if fields and len(unknown) > MAX_PROBLEMS:
        raise InvalidInput.of_fields(
            [FieldError(shown(name), "is an unknown field") for name in unknown[:MAX_PROBLEMS]]
        )
    for name, field in fields.items():
        if name in value and (inner := list(models_in(field.annotation))):
            refuse_unknown_fields(value[name], inner)

"""Errors on the wire: RFC 9457 problem details for every failure of every route."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pymongo.errors import ConnectionFailure, ExecutionTimeout, WTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import MAX_PROBLEMS, AppError, DatabaseUnavailable, FieldError
from app.kit.strict_json import shown
from app.kit.validation_words import message_of
from app.routers.http.security_headers import SECURITY_HEADERS

MEDIA_TYPE = "application/problem+json"
FRAMEWORK_CODES = {400: "malformed-request", 404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}
PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
API_PROBLEMS = (401, 422, 503)
"""The error statuses of every route: invalid credentials, an unknown query parameter, no database."""
BODY_PROBLEMS = (400, 413, 415)
"""The additional error statuses of routes with a body."""
READING = ("GET", "HEAD", "OPTIONS")
PLAIN_SECURITY_HEADERS = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

log = structlog.get_logger(__name__)


class FieldProblem(BaseModel):
    """An invalid field of a request."""

    path: str = Field(examples=["prompt"], description="The dotted path of the field.")
    message: str = Field(examples=["String should have at least 1 character"], description="The problem.")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["/docs/errors/agent-not-found"], description="The path of a page about the code.")
    title: str = Field(examples=["Not Found"], description="The name of the HTTP status.")
    status: int = Field(examples=[404], description="The HTTP status.")
    detail: str = Field(
        examples=["There is no agent 'plot-specialist-009'."],
        description="What is wrong, where, and what to do. The text may change between releases.",
    )
    instance: str = Field(examples=["/api/v1/agents/plot-specialist-009"], description="The path of the request.")
    code: str = Field(
        examples=["agent-not-found"],
        description="The stable, kebab-case code of the error. Rely on this, not on the text.",
    )
    errors: list[FieldProblem] | None = Field(
        default=None, description="The invalid fields, at most 50. Present with validation errors only."
    )


PROBLEM_DESCRIPTIONS = {
    400: "The request is not valid HTTP, or its body is not valid JSON.",
    401: "The credentials are missing, invalid, expired or revoked.",
    403: "The caller's role or projects do not permit the operation.",
    404: "The path names something that does not exist, or that the caller may not see.",
    409: "The operation conflicts with the current state; `code` says how.",
    410: "The run is archived, and its archive cannot be read here.",
    412: "The entry has changed since the `ETag` in `If-Match` was read.",
    413: "The body is larger than 1 MiB.",
    415: "The body is not declared as JSON.",
    422: "One or more fields or parameters are invalid; `errors` names them.",
    429: "A rate limit or another limit is reached. `Retry-After` says when to try again.",
    500: "A bug in the service. Its log has the reason under this response's `X-Request-Id`.",
    502: "The model provider failed.",
    503: "The service cannot do its work at the moment. `Retry-After` says when to try again.",
}
"""The meaning of each error status, for the OpenAPI description."""


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route for its OpenAPI description: those of every route, and these."""
    found = sorted({*API_PROBLEMS, *statuses})
    return {status: {"description": PROBLEM_DESCRIPTIONS[status], "model": Problem} for status in found}


def describe_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Give the error responses of an OpenAPI document the shape and media type that they have on the wire."""
    framework_schemas = ("#/components/schemas/HTTPValidationError", PROBLEM_SCHEMA["$ref"])
    for path in document["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                if schema.get("$ref") in framework_schemas:
                    answer["content"] = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def drop_patch_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Remove the defaults of merge patches: a field that a patch does not name keeps its stored value."""
    for path in document["paths"].values():
        if "patch" in path:
            reference: str = path["patch"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            for field in document["components"]["schemas"][reference.rpartition("/")[2]]["properties"].values():
                field.pop("default", None)
    return document


def problem(
    request: HTTPConnection,
    *,
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Answer a request with a problem."""
    body: dict[str, Any] = {
        "type": f"/docs/errors/{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": quote(request.scope["path"]),
        "code": code,
    }
    if errors:
        body["errors"] = [{"path": error.path, "message": error.message} for error in errors[:MAX_PROBLEMS]]
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


async def render_app_error(request: HTTPConnection, error: Exception) -> JSONResponse:
    """Render an expected failure."""
    assert isinstance(error, AppError)  # noqa: S101 - registered for this class
    headers: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(
        request, status=error.status, code=error.code, detail=error.message, errors=error.errors, headers=headers
    )


async def render_database_unavailable(request: Request, error: Exception) -> JSONResponse:
    """Render a failure to reach MongoDB."""
    log.warning("database-unavailable", error=type(error).__name__)
    return await render_app_error(request, DatabaseUnavailable(writing=request.method not in READING))


async def render_validation_error(request: Request, error: Exception) -> JSONResponse:
    """Render an invalid body, query or path; a body that is not JSON is malformed."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    found = error.errors()[:MAX_PROBLEMS]
    if any(one["type"] == "json_invalid" for one in found):
        return problem(request, status=400, code="malformed-json", detail="The body is not valid JSON.")
    errors = [FieldError(path_of(one["loc"]), message_of(one)) for one in found]
    first = errors[0]
    return problem(
        request,
        status=422,
        code="validation-error",
        detail=f"{first.path}: {first.message}",
        errors=errors,
    )


def path_of(location: Sequence[Any]) -> str:
    """Return the dotted path of a field, without the part of the request that contains it."""
    parts = [shown(str(part)) for part in location[1:]]
    return ".".join(parts) or str(location[0])


async def render_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Render a refusal by the framework: an unknown path, or a method that the path does not support."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    phrase = HTTPStatus(error.status_code).phrase
    code = FRAMEWORK_CODES.get(error.status_code) or phrase.lower().replace(" ", "-").replace("'", "")
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request))
    detail = f"{(error.detail or phrase).rstrip('.')}."
    if error.detail == phrase:
        detail = no_such_thing(request, error.status_code, headers.get("Allow")) or detail
    return problem(request, status=error.status_code, code=code, detail=detail, headers=headers)


def no_such_thing(request: Request, status: int, allowed: str | None) -> str | None:
    """Return the message for a path or a method that the service does not have."""
    path = shown(request.scope["path"])
    match status:
        case HTTPStatus.NOT_FOUND:
            return f"There is no resource at '{path}'. See /docs or /openapi.json for the paths that exist."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"'{path}' does not accept {request.method}, only {allowed}."
        case _:
            return None


def allowed_methods(request: Request) -> list[str]:
    """Return every method of a path: the framework names those of one route, and each method has its own route."""
    scopes = ({**request.scope, "method": method} for method in METHODS)
    return [
        scope["method"]
        for scope in scopes
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


async def render_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Render a bug: the log has the traceback, the client gets one sentence."""
    log.error("request-crashed", path=request.scope["path"], exc_info=error)
    # This response bypasses the middleware that gives every other response its id and its security headers.
    request_id = structlog.contextvars.get_contextvars().get("requestId")
    return problem(
        request,
        status=500,
        code="internal-error",
        detail="The service failed to handle this request. Its log has the reason under this response's X-Request-Id.",
        headers={**PLAIN_SECURITY_HEADERS, **({"X-Request-Id": request_id} if request_id else {})},
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Render every failure of the application as problem details."""
    app.add_exception_handler(AppError, render_app_error)
    app.add_exception_handler(RequestValidationError, render_validation_error)
    app.add_exception_handler(HTTPException, render_http_exception)
    for unavailable in (ConnectionFailure, ExecutionTimeout, WTimeoutError):
        app.add_exception_handler(unavailable, render_database_unavailable)
    app.add_exception_handler(Exception, render_unexpected)
    describe = app.openapi
    app.openapi = lambda: drop_patch_defaults(describe_problems(describe()))

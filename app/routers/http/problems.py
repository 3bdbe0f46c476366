"""Errors on the wire: RFC 9457 problem details, for every failure of every route."""

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
from app.routers.http.security_headers import SECURITY_HEADERS

MEDIA_TYPE = "application/problem+json"
FRAMEWORK_CODES = {400: "malformed-request", 404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}
PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
API_PROBLEMS = (401, 422, 503)
"""What every route of the API can end in: wrong credentials, an unknown query parameter, no database."""
BODY_PROBLEMS = (400, 413, 415)
"""What a route that takes a body can end in besides."""
READING = ("GET", "HEAD", "OPTIONS")
PLAIN_SECURITY_HEADERS = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

log = structlog.get_logger(__name__)


class FieldProblem(BaseModel):
    """One wrong field."""

    path: str = Field(examples=["prompt"])
    message: str = Field(examples=["String should have at least 1 character"])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=["urn:dynamic-agents:problem:agent-not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no agent 'nobody-001'."])
    instance: str = Field(examples=["/api/v1/agents/nobody-001"])
    code: str = Field(examples=["agent-not-found"], description="Stable and kebab-case: the one to program against.")
    errors: list[FieldProblem] | None = Field(default=None, description="Each wrong field, for validation errors.")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI description: those that every route has, and these."""
    found = sorted({*API_PROBLEMS, *statuses})
    return {status: {"description": HTTPStatus(status).phrase, "model": Problem} for status in found}


def describe_problems(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document whose error answers have the form and the media type that they have on the wire."""
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


def problem(
    request: HTTPConnection,
    *,
    status: int,
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem as the answer to a request."""
    body: dict[str, Any] = {
        "type": f"urn:dynamic-agents:problem:{code}",
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
    """An expected failure."""
    assert isinstance(error, AppError)  # noqa: S101 - registered for this class
    headers: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(
        request, status=error.status, code=error.code, detail=error.message, errors=error.errors, headers=headers
    )


async def render_database_away(request: Request, error: Exception) -> JSONResponse:
    """MongoDB does not answer."""
    log.warning("database-unavailable", error=type(error).__name__)
    return await render_app_error(request, DatabaseUnavailable(writing=request.method not in READING))


async def render_validation_error(request: Request, error: Exception) -> JSONResponse:
    """A body, a query or a path that does not fit; a body that is no JSON at all is malformed."""
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


def message_of(error: dict[str, Any]) -> str:
    """What is wrong with a field; of a text, pydantic counts characters as items once a validator has looked at it."""
    if isinstance(error.get("input"), str):
        match error["type"]:
            case "too_short":
                return f"String should have at least {characters(error['ctx']['min_length'])}"
            case "too_long":
                return f"String should have at most {characters(error['ctx']['max_length'])}"
            case _:
                pass
    return str(error["msg"]).removeprefix("Value error, ")


def characters(count: int) -> str:
    """A number of characters, in pydantic's words."""
    return f"{count} character{'' if count == 1 else 's'}"


def path_of(location: Sequence[Any]) -> str:
    """The dotted path of a field, without the part of the request that it stands in."""
    parts = [shown(str(part)) for part in location[1:]]
    return ".".join(parts) or str(location[0])


async def render_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: an unknown path, a method that a path does not have."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    phrase = HTTPStatus(error.status_code).phrase
    code = FRAMEWORK_CODES.get(error.status_code) or phrase.lower().replace(" ", "-").replace("'", "")
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request))
    detail = f"{error.detail.rstrip('.')}." if error.detail else f"{phrase}."
    return problem(request, status=error.status_code, code=code, detail=detail, headers=headers)


def allowed_methods(request: Request) -> list[str]:
    """All methods of a path: the framework names those of one route, and each method is a route of its own."""
    scopes = ({**request.scope, "method": method} for method in METHODS)
    return [
        scope["method"]
        for scope in scopes
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


async def render_unexpected(request: Request, error: Exception) -> JSONResponse:
    """A bug: logged whole, told in one sentence."""
    log.error("request-crashed", path=request.scope["path"], exc_info=error)
    # This answer is sent outside the middleware that gives every other answer its id and its security headers.
    request_id = structlog.contextvars.get_contextvars().get("requestId")
    return problem(
        request,
        status=500,
        code="internal-error",
        detail="The service failed at this request; its log has the reason under this response's X-Request-Id.",
        headers={**PLAIN_SECURITY_HEADERS, **({"X-Request-Id": request_id} if request_id else {})},
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Let every failure of the application come out as problem details."""
    app.add_exception_handler(AppError, render_app_error)
    app.add_exception_handler(RequestValidationError, render_validation_error)
    app.add_exception_handler(HTTPException, render_http_exception)
    for away in (ConnectionFailure, ExecutionTimeout, WTimeoutError):
        app.add_exception_handler(away, render_database_away)
    app.add_exception_handler(Exception, render_unexpected)
    describe = app.openapi
    app.openapi = lambda: describe_problems(describe())

"""The OpenAPI description says what the routes do, and what the routes do is what it says."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import orjson
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.routers.docs.openapi import encoded_description
from app.settings import Settings

Operation = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
OUTSIDE_THE_BASE = ("/healthz", "/readyz", "/metrics")


@pytest.fixture(scope="module")
def described() -> FastAPI:
    """The application, which describes itself without being started."""
    return create_app(Settings(_env_file=None))  # pyright: ignore[reportCallIssue] - pydantic-settings' own


@pytest.fixture(scope="module")
def document(described: FastAPI) -> dict[str, Any]:
    """Its OpenAPI document."""
    return described.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, Operation]]:
    """Every operation, with its method and path."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield f"{method.upper()} {path}", methods[method]


@pytest.mark.slow
def test_every_operation_has_an_id_of_its_own_a_summary_and_a_description(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]

    assert len(ids) == len(set(ids)) >= 15
    assert all(one.isidentifier() and "_" not in one for one in ids)
    for name, operation in operations(document):
        assert operation.get("summary"), name
        assert operation.get("description"), name


def test_every_error_answer_is_described_as_problem_details(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status >= "400" and name != "GET /readyz":
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
                schema = answer["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_operation_names_the_errors_that_it_can_end_in(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        path = name.split()[1]
        if path in OUTSIDE_THE_BASE or not path.startswith("/api/v1"):
            continue
        wanted = {"401", "503", "500"}
        if "{" in path:
            wanted |= {"404"}
        if "requestBody" in operation:
            wanted |= {"413", "415", "422"}
        assert wanted <= set(operation["responses"]), name


def test_every_operation_of_the_api_accepts_both_forms_of_a_key(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]

    assert {(scheme["type"], scheme.get("scheme") or scheme.get("name")) for scheme in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", "X-API-Key"),
    }
    for name, operation in operations(document):
        if "/api/v1" in name:
            assert {next(iter(way)) for way in operation["security"]} == set(schemes), name


def test_every_example_of_a_schema_matches_it(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    checked = 0

    for name, schema in schemas.items():
        root = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        validator = jsonschema_rs.validator_for(root)
        for example in schema.get("examples", []):
            assert [error.message for error in validator.iter_errors(example)] == [], name
            checked += 1

    assert checked >= 2


def test_references_all_lead_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    schemas = document["components"]["schemas"]

    assert {one.rpartition("/")[2] for one in references(document)} <= set(schemas)


async def test_the_running_service_serves_the_document_and_its_page(anonymous: httpx.AsyncClient) -> None:
    served = await anonymous.get("/openapi.json")
    page = await anonymous.get("/docs")

    assert served.json()["info"]["title"] == "Dynamic Agents"
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_the_description_is_generated_once_in_a_thread(
    described: FastAPI, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def generate() -> dict[str, Any]:
        threads.append(threading.current_thread().name)
        return document

    monkeypatch.setattr(described, "openapi", generate)

    answers = await asyncio.gather(*(encoded_description(described) for _ in range(5)))

    assert {orjson.loads(answer)["openapi"] for answer in answers} == {document["openapi"]}
    assert len(threads) == 1
    assert threads[0] != threading.current_thread().name


async def test_answers_match_the_schemas_that_describe_them(anonymous: httpx.AsyncClient) -> None:
    document = (await anonymous.get("/openapi.json")).json()
    for path in ("/api/v1/departments", "/api/v1/agents", "/api/v1/custom-tools", "/healthz", "/readyz"):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        validator = jsonschema_rs.validator_for({**schema, "components": document["components"]})

        answer = await anonymous.get(path)

        assert [error.message for error in validator.iter_errors(answer.json())] == [], path

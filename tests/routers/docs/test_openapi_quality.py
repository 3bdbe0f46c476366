"""The OpenAPI description is one to program against: browsed, tried out, trusted with a client's types."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from tests.fixtures.services import Service

METHODS = ("get", "post", "put", "patch", "delete")
API_PROBLEMS = {"401", "422", "503"}
BODY_PROBLEMS = {"400", "413", "415"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    app: FastAPI = create_app(Settings(_env_file=None))  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    return app.openapi()


def api_operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation under the base, with its method and path."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods and path.startswith("/api/v1"):
                yield f"{method.upper()} {path}", methods[method]


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema of every body that operations take, with their method and path."""
    for name, operation in api_operations(document):
        if "requestBody" in operation:
            reference: str = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            yield name, document["components"]["schemas"][reference.rpartition("/")[2]]


@pytest.mark.slow
def test_every_operation_has_one_tag(document: dict[str, Any]) -> None:
    untagged = [name for name, operation in api_operations(document) if len(operation.get("tags", [])) != 1]

    assert untagged == []


def undescribed(document: dict[str, Any]) -> Iterator[str]:
    """Every schema, property, parameter, header, response and tag without a description."""
    for name, schema in document["components"]["schemas"].items():
        parts = {name: schema} | {f"{name}.{field}": part for field, part in schema.get("properties", {}).items()}
        yield from (place for place, part in parts.items() if not part.get("description"))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts = {f"parameter {one['name']}": one for one in operation.get("parameters", [])}
            for status, response in operation["responses"].items():
                parts |= {f"response {status}": response} | response.get("headers", {})
            yield from (f"{method} {path} {place}" for place, part in parts.items() if not is_described(part))


def is_described(part: dict[str, Any]) -> bool:
    """Whether a part has a description of its own, which the framework's default is not."""
    return bool(part.get("description")) and part["description"] != "Successful Response"


def choices(value: Any, description: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Every enum value in a document, with the nearest description around it."""
    if isinstance(value, dict):
        around = str(value.get("description", description))
        yield from (
            (str(choice), around)
            for choice in [*value.get("enum", []), *([value["const"]] if "const" in value else [])]
        )
        for key, item in value.items():
            if key not in ("examples", "x-enumDescriptions"):
                yield from choices(item, around)
    elif isinstance(value, list):
        for item in value:
            yield from choices(item, description)


def test_every_part_has_a_description(document: dict[str, Any]) -> None:
    assert list(undescribed(document)) == []


def test_every_enum_value_is_explained(document: dict[str, Any]) -> None:
    found = list(choices(document))

    assert len(found) > 60
    assert [choice for choice, around in found if f"`{choice.removeprefix('-')}`" not in around] == []


def test_every_tag_has_a_description(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"] if tag["description"]}

    assert {tag for _, operation in api_operations(document) for tag in operation["tags"]} <= described


def test_a_merge_patch_has_no_defaults(document: dict[str, Any]) -> None:
    for name in ("AgentUpdate", "CustomToolUpdate", "DepartmentUpdate"):
        fields = document["components"]["schemas"][name]["properties"].values()

        assert [field for field in fields if "default" in field] == []


def test_every_operation_names_what_strict_input_refuses(document: dict[str, Any]) -> None:
    for name, operation in api_operations(document):
        described = set(operation["responses"])

        assert described >= API_PROBLEMS, name
        assert ("requestBody" in operation) == (described >= BODY_PROBLEMS), name


def test_every_body_refuses_unknown_fields_and_shows_an_example_that_fits(document: dict[str, Any]) -> None:
    found = dict(bodies(document))

    assert len(found) >= 9
    for name, schema in found.items():
        validator = jsonschema_rs.validator_for({**schema, "components": document["components"]})
        assert schema["additionalProperties"] is False, name
        assert schema["examples"], name
        assert [error.message for error in validator.iter_errors(schema["examples"][0])] == [], name


async def test_no_body_accepts_a_field_by_its_internal_name(shared_service: Service, document: dict[str, Any]) -> None:
    for name, schema in bodies(document):
        method, path = name.split()
        fields = [re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", field) for field in schema["properties"]]
        inside = [field for field in fields if field not in schema["properties"]]

        answer = await shared_service.http.request(method, re.sub(r"{\w+}", "x", path), json=dict.fromkeys(inside))

        reported = {error["path"] for error in answer.json().get("errors", [])}
        assert not inside or (answer.status_code == 422 and reported >= set(inside)), name


@pytest.mark.slow
async def test_every_example_of_something_to_make_can_be_sent_as_it_is(
    service: Service, document: dict[str, Any]
) -> None:
    answers: dict[str, httpx.Response] = {}
    for name, schema in bodies(document):
        method, path = name.split()
        if method == "POST" and "{" not in path:
            answers[path] = await service.http.post(path, json=schema["examples"][0])

    assert len(answers) >= 4
    made = dict.fromkeys(answers, 201) | {"/api/v1/orchestrations": 202, "/api/v1/me/sign-in": 403}
    assert {path: answer.status_code for path, answer in answers.items()} == made


async def test_a_refused_method_gets_all_methods_of_the_path(anonymous: httpx.AsyncClient) -> None:
    collection = await anonymous.put("/api/v1/agents")
    entry = await anonymous.put("/api/v1/agents/plot-specialist-001")

    assert (collection.status_code, collection.headers["allow"]) == (405, "GET, POST")
    assert (entry.status_code, entry.headers["allow"]) == (405, "DELETE, GET, PATCH")


@pytest.mark.parametrize("wrong", [{"isActive": 0}, {"isActive": "yes"}, {"priority": "2"}, {"priority": True}])
async def test_a_value_of_another_type_is_not_coerced(shared_service: Service, wrong: dict[str, Any]) -> None:
    answer = await shared_service.http.patch("/api/v1/departments/story", json=wrong)

    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (422, list(wrong))


@pytest.mark.parametrize(
    ("moment", "status"), [("2026-01-31T12:00:00Z", 200), ("2026-01-31", 200), ("1700000000", 422)]
)
async def test_a_time_is_written_as_a_date_not_as_a_number(shared_service: Service, moment: str, status: int) -> None:
    answer = await shared_service.http.get("/api/v1/executions", params={"from": moment})

    assert answer.status_code == status

"""The AsyncAPI description: whole in itself, and true of what the socket really sends."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from app.routers.docs.async_api import async_api
from tests.fixtures.http_api import open_socket
from tests.fixtures.services import Service

Json = dict[str, Any]


def references_in(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)


def resolved(document: Json, reference: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the target of a reference."""
    value: Any = document
    for part in reference.removeprefix("#/").split("/"):
        value = value[part]
    return value


def wrong_in(document: Json, message: Json) -> list[str]:
    """Return the violations of a message's schema."""
    schema = document["components"]["messages"][message["type"]]["payload"] | {"components": document["components"]}
    return [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(message)]


async def test_the_description_is_complete(shared_service: Service) -> None:
    document = (await shared_service.http.get("/asyncapi.json")).json()

    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["agentEvents"]["address"] == "/api/agent-events"
    assert {one["action"] for one in document["operations"].values()} == {"send", "receive"}
    assert all(reference.startswith("#/") for reference in references_in(document))
    assert all(resolved(document, reference) for reference in references_in(document))


@pytest.mark.parametrize("name", list(async_api()["components"]["messages"]))
def test_the_examples_are_valid_by_their_own_schemas(name: str) -> None:
    document = async_api()

    for example in document["components"]["messages"][name]["examples"]:
        assert example["payload"]["type"] == name
        assert wrong_in(document, example["payload"]) == []


async def test_the_sockets_messages_match_their_description(shared_service: Service) -> None:
    document = (await shared_service.http.get("/asyncapi.json")).json()
    run = await shared_service.run_department("story")

    async with open_socket(shared_service) as socket:
        await socket.send(type="subscribe", executionId=run["executionId"])
        messages = [*await socket.until_end(), await socket.ask(type="ping"), await socket.ask(type="none")]

    assert [(message["type"], wrong) for message in messages if (wrong := wrong_in(document, message))] == []

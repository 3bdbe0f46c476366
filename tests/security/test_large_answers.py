"""Answers about large executions do not keep the event loop from others."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from app.kit.schemas import ApiModel, Page
from app.models.agent_execution import AgentExecution
from app.routers.http.pages import answer_large_page
from app.services.runs.queries.execution_shapes import NO_NAMES, read_of
from tests.fixtures.http_api import insert_foreign_executions
from tests.fixtures.services import Service

Result = TypeVar("Result")


class Item(ApiModel):
    """An item of a list."""

    prompt: str


async def with_turns_of_others(work: Coroutine[Any, Any, Result]) -> tuple[Result, int]:
    """Return the result of a coroutine, and the number of turns of the event loop meanwhile."""
    turns = 0
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    return task.result(), turns


async def test_a_page_of_large_items_is_encoded_item_by_item() -> None:
    items = [Item(prompt="é" * 100_000) for _ in range(20)]

    answer, turns = await with_turns_of_others(answer_large_page(Page(items, 30, "next")))

    assert turns > 20
    assert json.loads(bytes(answer.body)) == {
        "items": [{"prompt": item.prompt} for item in items],
        "total": 30,
        "nextCursor": "next",
    }


async def test_an_execution_with_very_many_values_is_read_in_a_thread(shared_service: Service) -> None:
    params = {"numbers": [0] * 400_000}
    execution = AgentExecution.model_construct(execution_id="exec_1", prompt="x", params=params)

    found, turns = await with_turns_of_others(read_of(execution, NO_NAMES))

    assert turns > 5
    assert found.params == params


async def test_large_executions_are_listed_and_shown_in_their_tree(shared_service: Service) -> None:
    fields = {"prompt": "é" * 50_000, "output": {"text": "x" * 50_000}, "conversationId": "large answers"}
    ids = await insert_foreign_executions(shared_service, 3, **fields)

    page = await shared_service.http.get("/api/v1/executions?conversationId=large%20answers")
    tree = await shared_service.http.get(f"/api/v1/executions/{ids[0]}/tree")

    assert {len(item["prompt"]) for item in page.json()["items"]} == {50_000}
    assert not page.json()["items"][0].keys() & {"output", "params", "runState"}
    assert tree.json()["executionId"] == ids[0]

"""What the catalogue asks of a custom tool, and what a run may conclude from its definition."""

from typing import Any

import pytest

from app.models.custom_tool import CustomTool
from app.services.catalog.definitions import ToolDefinition
from tests.conftest import Service

TOOLS = "/api/v1/custom-tools"
TOOL = {
    "toolName": "double",
    "displayName": "Double",
    "description": "Doubles a number.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
    "exampleInputs": [{"n": 2}],
    "executeFunction": "({ n }) => ({ doubled: n * 2 })",
}


@pytest.mark.parametrize(
    ("fields", "is_pure", "may_run_again"),
    [
        ({"execute_function": "input => input"}, True, True),
        ({"execute_function": "(input, { fetch }) => fetch('https://a.example')"}, False, False),
        ({"execute_function": "(input, { fetch }) => fetch(input.url)", "idempotent": True}, False, True),
    ],
)
def test_only_a_tool_without_effects_or_an_idempotent_one_may_run_again(
    fields: dict[str, Any], is_pure: bool, may_run_again: bool
) -> None:
    tool = ToolDefinition.of(CustomTool.model_construct(tool_name="t", **fields))

    assert (tool.is_pure, tool.may_run_again) == (is_pure, may_run_again)


async def test_idempotent_is_a_field_like_any_other(service: Service) -> None:
    created = await service.http.post(TOOLS, json=TOOL)
    changed = await service.http.patch(f"{TOOLS}/double", json={"idempotent": True})
    stored = await service.services.database["custom-tools"].find_one({"toolName": "double"})

    assert (created.json()["idempotent"], changed.json()["idempotent"]) == (False, True)
    assert stored is not None
    assert list(stored)[-3:] == ["__v", "idempotent", "source"], "after Payload's own fields"

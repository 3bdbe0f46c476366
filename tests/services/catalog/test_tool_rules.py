"""Rules for custom tools, and what runs conclude from their definitions."""

import itertools
from typing import Any

import pytest

from app.models.catalog.custom_tool import CustomTool
from app.services.catalog.definitions import ToolDefinition
from app.services.catalog.tool_rules import precedence, same_json
from tests.fixtures.services import Service

TOOLS = "/api/v1/custom-tools"
TOOL = {
    "toolName": "double",
    "displayName": "Double",
    "description": "Doubles a number.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
    "exampleInputs": [{"n": 2}],
    "executeFunction": "({ n }) => ({ doubled: n * 2 })",
}
LOGGING = """({ n }) => {
  console.log("doubling", n);
  if (n < 0) throw new RangeError("no");
  return { doubled: n * 2 };
}"""


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


@pytest.mark.slow
async def test_idempotent_is_a_field_like_any_other(service: Service) -> None:
    created = await service.http.post(TOOLS, json=TOOL)
    changed = await service.http.patch(f"{TOOLS}/double", json={"idempotent": True})
    stored = await service.services.database["custom-tools"].find_one({"toolName": "double"})

    assert (created.json()["idempotent"], changed.json()["idempotent"]) == (False, True)
    assert stored is not None
    assert list(stored)[-4:] == ["__v", "idempotent", "requiresApproval", "source"], "after Payload's own fields"


@pytest.mark.slow
async def test_a_version_identifies_one_code_and_one_schema(service: Service) -> None:
    other_code = {"executeFunction": "({ n }) => ({ doubled: n + n })"}
    other_schema = {"inputSchema": {"properties": {"n": {"maximum": 9}}}}
    await service.http.post(TOOLS, json=TOOL)

    for change, words in (
        (other_code, "the code"),
        (other_schema, "the schema"),
        (other_code | {"version": "1.0.0"}, "the code"),
        (other_code | {"version": "1.0.0-rc.1"}, "the code"),
        (other_code | other_schema, "and"),
    ):
        refused = await service.http.patch(f"{TOOLS}/double", json=change)
        assert (refused.status_code, [error["path"] for error in refused.json()["errors"]]) == (422, ["version"])
        assert words in refused.json()["detail"]
    risen = await service.http.patch(f"{TOOLS}/double", json={**other_code, "version": "1.0.1"})
    assert (risen.status_code, risen.json()["version"]) == (200, "1.0.1")


@pytest.mark.slow
async def test_a_version_never_decreases_so_that_it_identifies_one_code(service: Service) -> None:
    await service.http.post(TOOLS, json={**TOOL, "version": "1.1.0"})

    fallen = await service.http.patch(f"{TOOLS}/double", json={"version": "1.0.0"})
    same = await service.http.patch(f"{TOOLS}/double", json={"version": "1.1.0"})
    risen = await service.http.patch(f"{TOOLS}/double", json={"version": "1.1.1"})

    assert (fallen.status_code, [error["path"] for error in fallen.json()["errors"]]) == (422, ["version"])
    assert [answer.json()["version"] for answer in (same, risen)] == ["1.1.0", "1.1.1"]


def test_a_schema_with_true_in_place_of_one_is_another() -> None:
    schema = {"properties": {"n": {"enum": [1, {"a": 0}]}}}

    assert same_json(schema, {"properties": {"n": {"enum": [1.0, {"a": 0}]}}})
    assert not same_json(schema, {"properties": {"n": {"enum": [True, {"a": 0}]}}})
    assert not same_json(schema, {"properties": {"n": {"enum": [1, {"a": False}]}}})
    assert not same_json(schema, {"properties": {"n": {"enum": [1]}}})


@pytest.mark.slow
async def test_an_edit_without_a_change_needs_no_new_version(service: Service) -> None:
    await service.http.post(TOOLS, json=TOOL)

    same = {name: TOOL[name] for name in ("executeFunction", "inputSchema")}
    answer = await service.http.patch(f"{TOOLS}/double", json={**same, "description": "Twice.", "exampleInputs": []})

    assert (answer.status_code, answer.json()["version"]) == (200, "1.0.0")


def test_versions_are_ordered_as_semantic_versions_are() -> None:
    rising = [
        "",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0",
        "1.0.10",
        "1.2.0",
    ]

    assert all(precedence(lower) < precedence(higher) for lower, higher in itertools.pairwise(rising))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0.0+build.5", "1.0.0-rc.1+001", "1.0.0-0a.x-y", "0.0.4", "1.0.0--"])
async def test_a_semantic_version_in_any_of_its_forms_is_taken(service: Service, version: str) -> None:
    created = await service.http.post(TOOLS, json={**TOOL, "version": version})

    assert (created.status_code, created.json().get("version")) == (201, version)


@pytest.mark.parametrize(
    "version", ["1.0.0-01", "1.0.0-", "1.0.0+", "1.0.0-a..b", "01.0.0", "1.0", "v1.0.0", "\u0661.0.0"]
)
async def test_an_invalid_version_is_refused(shared_service: Service, version: str) -> None:
    refused = await shared_service.http.post(TOOLS, json={**TOOL, "version": version})

    assert (refused.status_code, [error["path"] for error in refused.json()["errors"]]) == (422, ["version"])


def test_builds_of_one_version_are_equal() -> None:
    assert precedence("1.0.0+5") == precedence("1.0.0+6") == precedence("1.0.0")
    assert precedence("1.0.0-rc.1+5") < precedence("1.0.0+4") < precedence("1.0.1-rc.1")


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"executeFunction": "({ n }) => {"}, "executeFunction", "Line 1"),
        ({"executeFunction": "42"}, "executeFunction", "must be one function"),
        ({"inputSchema": {"type": "objekt"}}, "inputSchema", "type"),
        ({"inputSchema": {"$ref": "https://a.example/schema.json"}}, "inputSchema", "schema"),
        ({"exampleInputs": [{"n": 1}, {"n": "two"}]}, "exampleInputs.1.n", "does not match inputSchema"),
        ({"executeFunction": "({ n }) => { if (n > 1) throw new Error('too many'); return n }",
          "exampleInputs": [{"n": 1}, {"n": 2}]}, "exampleInputs.1", "tool-error: Error: too many"),
        ({"executeFunction": "() => 1n"}, "exampleInputs.0", "tool-result-invalid"),
    ],
)  # fmt: skip
async def test_saving_names_what_is_wrong_with_a_tool(
    shared_service: Service, change: dict[str, Any], path: str, words: str
) -> None:
    refused = await shared_service.http.post(TOOLS, json={**TOOL, **change})

    (error,) = refused.json()["errors"]
    assert (refused.status_code, error["path"]) == (422, path)
    assert words in error["message"]


@pytest.mark.slow
async def test_a_schema_of_draft_7_is_one_too(service: Service) -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "definitions": {"count": {"type": "integer"}},
        "properties": {"n": {"$ref": "#/definitions/count"}},
    }

    made = await service.http.post(TOOLS, json={**TOOL, "inputSchema": schema})
    tried = await service.http.post(f"{TOOLS}/double/test", json={"input": {"n": 1.5}})

    assert made.status_code == 201, made.text
    assert tried.json()["error"]["code"] == "tool-input-invalid"


@pytest.mark.slow
async def test_trying_a_tool_shows_all_that_came_of_it(service: Service) -> None:
    await service.http.post(TOOLS, json={**TOOL, "executeFunction": LOGGING})

    given = await service.http.post(f"{TOOLS}/double/test", json={"input": {"n": 21}})
    failed = await service.http.post(f"{TOOLS}/double/test", json={"input": {"n": -1}})
    refused = await service.http.post(f"{TOOLS}/double/test", json={"input": {}})

    assert [answer.status_code for answer in (given, failed, refused)] == [200] * 3
    assert (given.json()["output"], given.json()["console"]) == ({"doubled": 42}, ["doubling 21"])
    assert given.json()["durationMs"] > 0
    assert "error" not in given.json()
    assert failed.json()["error"] == {"code": "tool-error", "message": "RangeError: no"}
    assert failed.json()["console"] == ["doubling -1"]
    assert "output" not in failed.json()
    assert refused.json()["error"]["code"] == "tool-input-invalid"
    assert (await service.http.get(f"{TOOLS}/double")).json()["totalExecutions"] == 0


async def test_trying_is_for_admins_and_for_tools_that_exist(shared_service: Service) -> None:
    unknown = await shared_service.http.post(f"{TOOLS}/noSuchTool/test", json={"input": {}})
    stranger = await shared_service.http.post(
        f"{TOOLS}/textStatistics/test", json={"input": {}}, headers={"Authorization": "Bearer unknown"}
    )

    assert (unknown.status_code, unknown.json()["code"]) == (404, "custom-tool-not-found")
    assert stranger.status_code == 401

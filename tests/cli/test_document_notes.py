"""The doctor's findings about documents that another program stored."""

from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId

from app.cli.doctor import examine_database
from app.database.connection import Database
from app.kit.times import utc_now
from app.services.catalog.seeds.insertion import insert_missing_seeds
from app.settings import Settings

GONE = ObjectId("66f0a1b2c3d4e5f601234567")


async def problems_in(database: Database, **variables: Any) -> list[str]:  # noqa: ANN401 - any setting
    """The problems that the doctor finds in a database."""
    settings = Settings(_env_file=None, **variables)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    found = [finding async for finding in examine_database(settings, database)]
    return [f"{finding.subject}: {finding.text}" for finding in found if finding.ok is False]


async def test_nothing_is_wrong_with_the_seeds(database: Database) -> None:
    await insert_missing_seeds(database)

    assert await problems_in(database) == []


@pytest.mark.slow
async def test_an_agent_whose_department_is_gone_or_whose_model_is_not_in_the_list_is_named(
    database: Database, tmp_path: Path
) -> None:
    await insert_missing_seeds(database)
    agents = database["agents"]
    await agents.update_many({"agentId": {"$regex": "^plot|^theme"}}, {"$set": {"department": GONE}})
    await agents.update_one({"agentId": "editor-001"}, {"$set": {"model": "other/model"}, "$unset": {"department": 1}})
    config = tmp_path / "models.yaml"
    config.write_text('{"model_list": [{"model_name": "other/model", "litellm_params": {"model": "openai/x"}}]}')

    reported = await problems_in(database)
    with_entry = await problems_in(database, models_config=config)

    gone = "2 documents (plot-specialist-001, theme-specialist-001): the department no longer exists: runs are refused"
    assert any(one.startswith(f"agents: {gone}") for one in reported)
    assert "agents: 1 document (editor-001): department is unset: runs are refused (409)" in reported
    assert any(
        one.startswith("agents: 1 document (editor-001): model is 'other/model', which is not") for one in reported
    )
    assert len(reported) == 3
    assert not any("other/model" in one for one in with_entry)


async def test_a_department_whose_head_is_inactive_or_in_the_trash_is_named(database: Database) -> None:
    await insert_missing_seeds(database)
    agents = database["agents"]
    heads = [raw["agentId"] async for raw in agents.find({"isDepartmentHead": True}).sort("agentId")]
    await agents.update_one({"agentId": heads[0]}, {"$set": {"isActive": False}})
    await agents.update_one({"agentId": heads[1]}, {"$set": {"deletedAt": utc_now()}})
    await database["departments"].update_one({"slug": "video"}, {"$set": {"isActive": False}})

    [reported] = await problems_in(database)

    assert reported.startswith("departments: 2 documents (")
    assert reported.endswith("): the department has no active head: its runs are refused (409)")


@pytest.mark.slow
async def test_a_model_that_a_wildcard_stands_for_is_in_the_list_and_the_wildcard_is_not(
    database: Database, tmp_path: Path
) -> None:
    await insert_missing_seeds(database)
    agents = database["agents"]
    await agents.update_one({"agentId": "editor-001"}, {"$set": {"model": "house/model"}})
    config = tmp_path / "models.yaml"
    config.write_text('{"model_list": [{"model_name": "house/*", "litellm_params": {"model": "openai/*"}}]}')

    assert await problems_in(database, models_config=config) == []
    await agents.update_one({"agentId": "editor-001"}, {"$set": {"model": "house/*"}})
    [reported] = await problems_in(database, models_config=config)

    assert reported.startswith("agents: 1 document (editor-001): model is 'house/*', which is not in the list")


async def test_a_model_that_payloads_options_lack_is_a_note_and_no_problem(database: Database) -> None:
    await insert_missing_seeds(database)
    await database["agents"].update_one({"agentId": "editor-001"}, {"$set": {"model": "other/model"}})
    settings = Settings(_env_file=None, allowed_models="other/model,anthropic/claude-sonnet-4.5")  # pyright: ignore[reportCallIssue, reportArgumentType] - pydantic-settings' own

    findings = [finding async for finding in examine_database(settings, database)]

    assert all(finding.ok is not False for finding in findings)
    [note] = [finding.text for finding in findings if "other/model" in finding.text]
    assert note.startswith("1 document (editor-001): model is 'other/model': a Payload CMS cannot save")


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("departments", {"priority": 11}, "priority is not from 1 to 10"),
    ("departments", {"defaultModel": "gpt-5"}, "defaultModel is 'gpt-5', which is not in the list"),
    ("departments", {"slug": "default"}, "slug is 'default'"),
    ("departments", {"createdAt": "2026-01-01T00:00:00Z"}, "createdAt is not a date"),
    ("agents", {"qualityThreshold": 100.5}, "qualityThreshold is not from 0 to 100"),
    ("agents", {"maxAgentSteps": 4}, "maxAgentSteps is not from 5 to 100"),
    ("agents", {"toolNames": [{"toolName": "wordCount", "id": "1"}]}, "toolNames has a row without an id"),
    ("agents", {"toolNames": [{"toolName": "noSuch", "id": "a" * 24}]}, "toolNames has 'noSuch', which does not exist"),
    ("agents", {"toolNames": [{"toolName": "mcp:gone/read", "id": "a" * 24}]}, "toolNames has 'mcp:gone/read', but"),
    ("agents", {"skills": [{"skill": "", "id": "a" * 24}]}, "skills has a row without skill"),
    ("custom-tools", {"departments": [GONE]}, "departments names a department that no longer exists"),
    ("custom-tools", {"departments": [str(GONE)]}, "departments holds text instead of ObjectIds"),
    ("custom-tools", {"inputSchema": None}, "inputSchema is unset"),
    (
        "custom-tools",
        {"inputSchema": {"const": Decimal128("1")}},
        "inputSchema holds a value that JSON cannot represent",
    ),
    ("custom-tools", {"exampleInputs": [{"example": 2**60, "id": "a" * 24}]}, "exampleInputs holds a value that JSON"),
    ("agent-executions", {"project": str(GONE)}, "project is stored as text"),
    ("agent-executions", {"qualityScore": 101}, "qualityScore is not from 0 to 100"),
    ("agent-executions", {"startedAt": "2026-01-01T00:00:00Z"}, "startedAt is not a date"),
    ("agent-executions", {"output": "done"}, "output is bare text"),
    ("agent-executions", {"params": {"by": GONE}}, "params holds a value that JSON cannot represent"),
]


@pytest.mark.parametrize(("collection", "fields", "problem"), BROKEN, ids=lambda value: str(value)[:40])
async def test_a_document_that_breaks_a_rule_is_reported_by_name(
    database: Database, collection: str, fields: dict[str, Any], problem: str
) -> None:
    department = ObjectId()
    await database["departments"].insert_one({"_id": department, "slug": "costume"})
    whole = {
        "departments": {"slug": "odd"},
        "agents": {"agentId": "odd", "department": department},
        "custom-tools": {"toolName": "wordCount", "inputSchema": {"type": "object"}},
        "agent-executions": {"executionId": "odd", "status": "completed"},
    }
    await database[collection].insert_one({**whole[collection], "createdAt": utc_now(), **fields})

    found = await problems_in(database)

    name = {"departments": fields.get("slug", "odd"), "custom-tools": "wordCount"}.get(collection, "odd")
    assert any(one.startswith(f"{collection}: 1 document ({name}): {problem}") for one in found), found


async def test_relations_stored_as_text_are_reported(database: Database) -> None:
    department = ObjectId()
    await database["departments"].insert_one({"_id": department, "slug": "costume"})
    await database["agents"].insert_one({"agentId": "odd", "isDepartmentHead": True, "department": str(department)})

    assert await problems_in(database) == [
        "agents: 1 document (odd): department is stored as text, not as an ObjectId: "
        "searches for it do not find the document"
    ]


async def test_many_are_counted_and_the_first_few_named(database: Database) -> None:
    executions = [{"executionId": f"exec-{number}", "qualityScore": -1} for number in range(7)]
    damaged = [{"executionId": f"bad-{number}", "status": "unheard-of"} for number in range(22)]
    await database["agent-executions"].insert_many(executions + damaged)

    reported = await problems_in(database)

    assert (
        "agent-executions: 7 documents (exec-0, exec-1, exec-2, exec-3, exec-4, …): qualityScore is not from 0 to 100: "
        "a Payload CMS cannot save the document"
    ) in reported
    assert "agent-executions: 2 more documents cannot be used. Correct those above, then run this again." in reported
    assert len(reported) == 22

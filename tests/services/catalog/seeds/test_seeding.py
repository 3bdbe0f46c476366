"""Seeds are inserted if missing, never replace edited documents, and are all refused if one is invalid."""

import asyncio
import shutil
from pathlib import Path

import pytest
from bson import ObjectId
from structlog.testing import capture_logs

from app.database.connection import Database
from app.services.catalog.seeds.files import SEEDS, SeedUnreadable
from app.services.catalog.seeds.insertion import SeedCount, insert_missing_seeds

NONE = SeedCount(0, 0, 0)
ALL = SeedCount(6, 28, 17)
COLLECTIONS = ("departments", "agents", "custom-tools")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the seeds that a test may spoil."""
    return Path(shutil.copytree(SEEDS, tmp_path / "seeds"))


async def everything(database: Database) -> list[object]:
    """All documents of the catalog, exactly as they are stored."""
    return [await database[name].find().sort("_id").to_list() for name in COLLECTIONS]


@pytest.mark.slow
async def test_an_empty_database_gets_all_seeds_and_a_second_start_nothing(database: Database) -> None:
    first = await insert_missing_seeds(database)
    stored = await everything(database)

    second = await insert_missing_seeds(database)

    assert (first, second) == (ALL, NONE)
    assert await everything(database) == stored
    assert [await database[name].count_documents({}) for name in COLLECTIONS] == [6, 28, 17]


@pytest.mark.slow
async def test_edited_deactivated_and_extended_documents_stay_unchanged(database: Database) -> None:
    await insert_missing_seeds(database)
    await database["departments"].update_one({"slug": "audio"}, {"$set": {"name": "Sound", "isActive": False}})
    await database["agents"].update_one({"agentId": "editor-001"}, {"$set": {"toolNames": []}, "$unset": {"skills": 1}})
    await database["custom-tools"].update_one({"toolName": "cueSheet"}, {"$set": {"ofTheCms": {"draft": True}}})
    edited = await everything(database)

    count = await insert_missing_seeds(database)

    assert count == NONE
    assert await everything(database) == edited


@pytest.mark.slow
async def test_deleted_seeds_are_inserted_again_and_join_the_existing_department(database: Database) -> None:
    await insert_missing_seeds(database)
    await database["agents"].delete_one({"agentId": "editor-001"})
    await database["custom-tools"].delete_one({"toolName": "cueSheet"})
    video = await database["departments"].find_one({"slug": "video"})

    count = await insert_missing_seeds(database)

    agent = await database["agents"].find_one({"agentId": "editor-001"})
    assert count == SeedCount(0, 1, 1)
    assert agent is not None
    assert video is not None
    assert agent["department"] == video["_id"]


@pytest.mark.slow
async def test_two_processes_that_seed_at_once_leave_one_of_each(database: Database) -> None:
    counts = await asyncio.gather(*(insert_missing_seeds(database) for _ in range(4)))

    assert [await database[name].count_documents({}) for name in COLLECTIONS] == [6, 28, 17]
    assert sum(count.departments for count in counts) == 6
    departments = {one["_id"] async for one in database["departments"].find({}, {"_id": 1})}
    assert {agent["department"] async for agent in database["agents"].find()} == departments


async def test_a_second_head_is_refused_by_the_database_and_the_rest_is_inserted(database: Database) -> None:
    department = (await database["departments"].insert_one({"slug": "story", "name": "Ours"})).inserted_id
    own_head = {"agentId": "our-own-head", "department": department, "isDepartmentHead": True}
    await database["agents"].insert_one(own_head)

    with capture_logs() as lines:
        count = await insert_missing_seeds(database)

    assert count == SeedCount(5, 27, 17)
    assert await database["agents"].find_one({"agentId": "story-head-001"}) is None
    assert [line["key"] for line in lines if line["event"] == "seed-not-inserted"] == ["story-head-001"]
    assert await database["agents"].count_documents({"department": department}) == 5


async def test_a_foreign_department_without_a_slug_disturbs_nothing(database: Database) -> None:
    await database["departments"].insert_many([{"name": "No slug"}])
    await database["departments"].insert_one({"slug": ["a", "list"]})

    assert await insert_missing_seeds(database) == ALL


SPOILED: dict[str, tuple[str, str | bytes | None, str]] = {
    "no departments": ("departments.yaml", None, "departments.yaml cannot be read"),
    "bytes": ("departments.yaml", b"\xff\xfe", "departments.yaml cannot be read"),
    "no YAML": ("departments.yaml", "departments: [", "departments.yaml is not valid YAML"),
    "no mapping": ("departments.yaml", "- story", "departments.yaml must contain a mapping"),
    "no list": ("departments.yaml", "departments: story", "departments must be a list"),
    "row is text": ("departments.yaml", "departments: [story]", "must contain a mapping"),
    "no slug": ("departments.yaml", "departments: [{name: Story}]", "an entry without slug"),
    "default": ("departments.yaml", "departments: [{slug: default}]", "no department has the slug 'default'"),
    "wrong type": ("departments.yaml", "departments: [{slug: story, priority: first}]", "'story': priority"),
    "no front matter": ("agents/story/x-001.md", "You are X.", "x-001.md must begin with front matter"),
    "no agent id": ("agents/story/x-001.md", "---\nname: X\n---\nYou are X.", "x-001.md has an entry without agentId"),
    "no department": ("agents/story/x-001.md", "---\nagentId: x-001\n---\nYou.", "'x-001' names the department None"),
    "unknown department": (
        "agents/story/x-001.md",
        "---\nagentId: x-001\ndepartment: nowhere\n---\nYou.",
        "'x-001' names the department 'nowhere'",
    ),
    "tool names": (
        "agents/story/x-001.md",
        "---\nagentId: x-001\ndepartment: story\ntoolNames: wordCount\n---\nYou.",
        "toolNames must be a list",
    ),
    "steps": (
        "agents/story/x-001.md",
        "---\nagentId: x-001\ndepartment: story\nmaxAgentSteps: many\n---\nYou.",
        "'x-001': maxAgentSteps",
    ),
    "no code": ("custom-tools/cueSheet/execute.js", None, "execute.js cannot be read"),
    "no tool name": ("custom-tools/cueSheet/tool.yaml", "version: 1.0.0", "an entry without toolName"),
    "tool's department": (
        "custom-tools/cueSheet/tool.yaml",
        "toolName: cueSheet\ndepartments: [nowhere]",
        "'cueSheet' names the department 'nowhere'",
    ),
    "examples": (
        "custom-tools/cueSheet/tool.yaml",
        "toolName: cueSheet\nexampleInputs: 5",
        "exampleInputs must be a list",
    ),
    "schema": ("custom-tools/cueSheet/tool.yaml", "toolName: cueSheet\ninputSchema: none", "'cueSheet': inputSchema"),
}


@pytest.mark.parametrize("case", SPOILED)
async def test_a_seed_that_cannot_be_used_is_named_and_nothing_at_all_is_inserted(
    database: Database, folder: Path, case: str
) -> None:
    path, content, told = SPOILED[case]
    match content:
        case None:
            (folder / path).unlink()
        case bytes():
            (folder / path).write_bytes(content)
        case str():
            (folder / path).write_text(content, encoding="utf-8")

    with pytest.raises(SeedUnreadable) as caught:
        await insert_missing_seeds(database, folder)

    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert await everything(database) == [[], [], []]


async def test_a_folder_that_is_not_there_is_named(database: Database, tmp_path: Path) -> None:
    with pytest.raises(SeedUnreadable, match="nowhere"):
        await insert_missing_seeds(database, tmp_path / "nowhere")


async def test_agents_and_tools_point_at_departments_by_object_id(database: Database) -> None:
    await insert_missing_seeds(database)

    departments = {one["_id"] async for one in database["departments"].find()}
    assert all(isinstance(one, ObjectId) for one in departments)
    assert {agent["department"] async for agent in database["agents"].find()} == departments
    assert {one async for tool in database["custom-tools"].find() for one in tool["departments"]} <= departments

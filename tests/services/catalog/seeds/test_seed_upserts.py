"""`dynamic-agents seed`: what is stored becomes what its seed says, and nothing else changes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.database.connection import Database
from app.services.catalog.seeds.files import SEEDS, SeedUnreadable
from app.services.catalog.seeds.insertion import SeedCount, insert_missing_seeds
from app.services.catalog.seeds.upserts import Outcome, SeedReport, upsert_seeds

pytestmark = pytest.mark.slow

NONE = SeedCount(0, 0, 0)
ALL = SeedCount(6, 28, 17)
COLLECTIONS = ("departments", "agents", "custom-tools")
PLOT = "agents/story/plot-specialist-001.md"
HEAD = "agents/story/story-head-001.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the seeds that a test may change."""
    return Path(shutil.copytree(SEEDS, tmp_path / "seeds"))


def edit(folder: Path, path: str, old: str, new: str) -> None:
    """Change a seed file."""
    text = (folder / path).read_text(encoding="utf-8")
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1), encoding="utf-8")


def counts(report: SeedReport) -> tuple[SeedCount, SeedCount, SeedCount]:
    """How many were inserted, changed, left as they were."""
    return report.count(Outcome.INSERTED), report.count(Outcome.CHANGED), report.count(Outcome.UNCHANGED)


async def everything(database: Database) -> list[object]:
    """All documents of the catalog, exactly as they are stored."""
    return [await database[name].find().sort("_id").to_list() for name in COLLECTIONS]


async def stored(database: Database, collection: str, **key: str) -> dict[str, Any]:
    """A stored document."""
    found = await database[collection].find_one(key)
    assert found is not None
    return found


async def test_an_empty_database_gets_all_seeds_and_a_second_time_nothing_changes(database: Database) -> None:
    first = await upsert_seeds(database)
    before = await everything(database)

    second = await upsert_seeds(database)

    assert (counts(first), counts(second)) == ((ALL, NONE, NONE), (NONE, NONE, ALL))
    assert first.refused == second.refused == []
    assert await everything(database) == before


async def test_documents_that_a_start_inserted_equal_their_seeds(database: Database) -> None:
    await insert_missing_seeds(database)

    assert counts(await upsert_seeds(database)) == (NONE, NONE, ALL)


async def test_a_changed_seed_changes_its_document_and_a_new_one_is_inserted(database: Database, folder: Path) -> None:
    await upsert_seeds(database)
    departments = database["departments"]
    kept = {"totalExecutions": 7, "ofTheCms": {"draft": True}}
    await departments.update_one({"slug": "story"}, {"$set": kept})
    before = await stored(database, "departments", slug="story")
    edit(folder, "departments.yaml", "name: Story Department", "name: Narrative Department")
    edit(folder, "departments.yaml", "departments:\n", "departments:\n  - {slug: costume, name: Costume}\n")

    report = await upsert_seeds(database, folder)

    after = await stored(database, "departments", slug="story")
    assert counts(report) == (SeedCount(1, 0, 0), SeedCount(1, 0, 0), SeedCount(5, 28, 17))
    assert after == before | {"name": "Narrative Department", "updatedAt": after["updatedAt"]}
    assert after["updatedAt"] > before["updatedAt"]
    assert await departments.find_one({"slug": "costume", "priority": 5}) is not None
    assert counts(await upsert_seeds(database, folder)) == (NONE, NONE, SeedCount(7, 28, 17))


async def test_rows_that_stay_keep_their_ids_and_what_a_seed_does_not_name_stays(
    database: Database, folder: Path
) -> None:
    await upsert_seeds(database)
    before = await stored(database, "agents", agentId="plot-specialist-001")
    await database["agents"].update_one({"_id": before["_id"]}, {"$set": {"maxAgentSteps": 33}})
    text = (folder / PLOT).read_text(encoding="utf-8")
    steps = next(line for line in text.splitlines() if line.startswith("maxAgentSteps"))
    edit(folder, PLOT, steps + "\n", "")
    edit(folder, PLOT, "skills:\n", "skills:\n  - foreshadowing\n")

    report = await upsert_seeds(database, folder)

    after = await stored(database, "agents", agentId="plot-specialist-001")
    assert report.count(Outcome.CHANGED) == SeedCount(0, 1, 0)
    assert after["skills"][1:] == before["skills"]
    assert (after["skills"][0]["skill"], len(after["skills"][0]["id"])) == ("foreshadowing", 24)
    assert (after["toolNames"], after["maxAgentSteps"]) == (before["toolNames"], 33)


async def test_the_code_of_a_tool_changes_only_with_a_higher_version(database: Database, folder: Path) -> None:
    await upsert_seeds(database)
    before = await stored(database, "custom-tools", toolName="cueSheet")
    edit(folder, "custom-tools/cueSheet/execute.js", "(", "/* new */ (")
    edit(folder, "custom-tools/textStatistics/tool.yaml", "displayName: ", "displayName: New ")

    refused = await upsert_seeds(database, folder)
    same = await stored(database, "custom-tools", toolName="cueSheet")
    edit(folder, "custom-tools/cueSheet/tool.yaml", "version: 1.0.0", "version: 1.0.1")
    raised = await upsert_seeds(database, folder)

    assert counts(refused) == (NONE, SeedCount(0, 0, 1), SeedCount(6, 28, 15))
    assert refused.refused == ["cueSheet: version: must be greater than 1.0.0 because the code changed"]
    assert same == before
    assert (counts(raised), raised.refused) == ((NONE, SeedCount(0, 0, 1), SeedCount(6, 28, 16)), [])
    assert "/* new */" in (await stored(database, "custom-tools", toolName="cueSheet"))["executeFunction"]


async def test_another_agent_becomes_the_head_when_the_first_one_steps_down(database: Database, folder: Path) -> None:
    await upsert_seeds(database)
    edit(folder, PLOT, "isDepartmentHead: false", "isDepartmentHead: true")

    second_head = await upsert_seeds(database, folder)
    edit(folder, HEAD, "isDepartmentHead: true", "isDepartmentHead: false")
    swapped = await upsert_seeds(database, folder)

    assert second_head.count(Outcome.CHANGED) == NONE
    assert second_head.refused == [
        "plot-specialist-001: The department 'story' already has a head: Head of Story (story-head-001)."
    ]
    assert (swapped.count(Outcome.CHANGED), swapped.refused) == (SeedCount(0, 2, 0), [])
    plot = await stored(database, "agents", agentId="plot-specialist-001")
    assert (plot["isDepartmentHead"], plot["requiresReview"]) == (True, False)


async def test_a_new_second_head_is_refused_by_the_name_of_the_first(database: Database) -> None:
    department = (await database["departments"].insert_one({"slug": "story", "name": "Ours"})).inserted_id
    await database["agents"].insert_one({"agentId": "our-head", "department": department, "isDepartmentHead": True})

    report = await upsert_seeds(database)

    assert counts(report) == (SeedCount(5, 27, 17), SeedCount(1, 0, 0), NONE)
    assert [one.partition(":")[0] for one in report.refused] == ["story-head-001"]
    assert "(our-head)" in report.refused[0]


async def test_a_built_in_tool_and_what_cannot_be_read_are_left_alone(database: Database) -> None:
    await database["custom-tools"].insert_one({"toolName": "cueSheet", "source": "builtin"})
    await database["agents"].insert_one({"agentId": "editor-001", "totalExecutions": "many"})

    report = await upsert_seeds(database)

    assert sorted(one.partition(":")[0] for one in report.refused) == ["cueSheet", "editor-001"]
    assert (await stored(database, "custom-tools", toolName="cueSheet")).keys() == {"_id", "toolName", "source"}


async def test_a_folder_with_one_wrong_file_changes_nothing(database: Database, folder: Path) -> None:
    edit(folder, "departments.yaml", "name: Story Department", "name: Narrative Department")
    edit(folder, PLOT, "department: story", "department: nowhere")

    with pytest.raises(SeedUnreadable, match="nowhere"):
        await upsert_seeds(database, folder)

    assert await everything(database) == [[], [], []]

"""Seeds are held to the rules of the API, and every problem is named with its file and line."""

import shutil
from pathlib import Path

import pytest

from app.database.connection import Database
from app.services.catalog.seeds.files import SEEDS, SeedUnreadable
from app.services.catalog.seeds.rules import SeedRules
from app.services.catalog.tool_checker import ToolChecker
from app.services.llm.model_info.model_names import KnownModels
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.settings import CATALOG_MODELS

AGENT = "agents/story/plot-specialist-001.md"
LATER = "agents/story/theme-specialist-001.md"
TOOL = "custom-tools/cueSheet/tool.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the seeds that a test may change."""
    return Path(shutil.copytree(SEEDS, tmp_path / "seeds"))


@pytest.fixture
def rules(warm_sandbox: ToolSandbox) -> SeedRules:
    """The rules of a service with the models of the catalog."""
    return SeedRules(KnownModels(frozenset({*CATALOG_MODELS, "house/*"})), ToolChecker(warm_sandbox))


def edit(folder: Path, path: str, old: str, new: str) -> str:
    """Change a seed file; where the change is, as a problem names it."""
    text = (folder / path).read_text(encoding="utf-8")
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1), encoding="utf-8")
    return f"{folder / path}:{text[: text.index(old)].count(chr(10)) + 1}: "


@pytest.mark.slow
async def test_nothing_is_wrong_with_the_seeds(database: Database, rules: SeedRules) -> None:
    assert await rules.problems(database, SEEDS) == []


@pytest.mark.slow
async def test_a_seed_may_name_a_model_that_a_wildcard_stands_for(
    database: Database, folder: Path, rules: SeedRules
) -> None:
    edit(folder, AGENT, "model: anthropic/claude-sonnet-4.5", "model: house/model")

    assert await rules.problems(database, folder) == []


EDITS = [
    (AGENT, "qualityThreshold: 80", "qualityThreshold: 180", "qualityThreshold: Input should be less than or equal"),
    (AGENT, "model: anthropic/claude-sonnet-4.5", "model: unknown/nothing", "model: 'unknown/nothing' is not one of"),
    (AGENT, "toolNames:", "toolNames: [noSuchTool]\nskills:  #", "toolNames.0: there is no tool 'noSuchTool'"),
    (AGENT, "specialization: ", "favoriteColor: ", "favoriteColor: is not a known field"),
    (LATER, "agentId: theme-specialist-001", "agentId: story-head-001", "agentId: 'story-head-001' is taken by"),
    (LATER, "isDepartmentHead: false", "isDepartmentHead: true", "isDepartmentHead: 'story' already has the head"),
    (AGENT, "department: story", "department: nowhere", "department: there is no department 'nowhere'"),
    (AGENT, "maxAgentSteps: 20", "maxAgentSteps: 1", "maxAgentSteps: Input should be greater than or equal to 5"),
    ("departments.yaml", "slug: story", "slug: Story!", "slug: must consist of lower-case letters"),
    (TOOL, "toolName: cueSheet", "toolName: CueSheet", "toolName: must begin with a lower-case letter"),
    (TOOL, "inputSchema:\n  type: object", "inputSchema:\n  type: array", "inputSchema: type: A tool's input is an"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "old", "new", "message"), EDITS, ids=[one[3][:40] for one in EDITS])
async def test_a_seed_that_the_api_would_refuse_is_reported_with_its_file_and_line(
    database: Database, folder: Path, rules: SeedRules, path: str, old: str, new: str, message: str
) -> None:
    where = edit(folder, path, old, new)

    problems = await rules.problems(database, folder)

    assert any(problem.startswith(where) and message in problem for problem in problems), problems


@pytest.mark.slow
async def test_every_problem_of_every_file_is_named_at_once(database: Database, folder: Path, rules: SeedRules) -> None:
    edit(folder, AGENT, "qualityThreshold: 80", "qualityThreshold: 180")
    edit(folder, AGENT, "maxAgentSteps: 20", "maxAgentSteps: 1000")
    (folder / "custom-tools/cueSheet/execute.js").write_text("(input) => {", encoding="utf-8")

    problems = await rules.problems(database, folder)

    assert len(problems) == 3
    assert problems[2].startswith(f"{folder / 'custom-tools/cueSheet/execute.js'}:")


async def test_a_file_that_is_not_yaml_is_named_with_its_line(
    database: Database, folder: Path, rules: SeedRules
) -> None:
    (folder / "departments.yaml").write_text("departments:\n  - slug: [\n", encoding="utf-8")

    with pytest.raises(SeedUnreadable, match=r"departments\.yaml is not valid YAML in line"):
        await rules.problems(database, folder)

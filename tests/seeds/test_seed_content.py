"""The content of the seed catalog, read as files."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

Document = dict[str, Any]

SEEDS = Path(__file__).parents[2] / "seeds"
ALLOWED_MODELS = {
    "anthropic/claude-sonnet-4.5",
    "anthropic/claude-3-opus",
    "anthropic/claude-3-haiku",
    "openai/gpt-4",
    "openai/gpt-4-turbo",
}
# slug, name, description, icon, color, priority
DEPARTMENTS = [
    ("story", "Story Department", "Develops narrative structure, plot, themes, and story arcs", "📖", "#8B5CF6", 1),
    (
        "character",
        "Character Department",
        "Creates character profiles, development arcs, and relationships",
        "👤",
        "#EC4899",
        2,
    ),
    ("visual", "Visual Department", "Designs visual style, cinematography, and art direction", "🎨", "#F59E0B", 3),
    ("video", "Video Department", "Handles video production, editing, and post-production", "🎬", "#10B981", 4),
    ("audio", "Audio Department", "Manages sound design, music, dialogue, and audio mixing", "🔊", "#3B82F6", 5),
    (
        "production",
        "Production Department",
        "Coordinates overall production, scheduling, and resource management",
        "🎯",
        "#EF4444",
        6,
    ),
]
SLUGS = [row[0] for row in DEPARTMENTS]
AGENT_KEYS = {
    "agentId", "name", "description", "department", "isDepartmentHead", "model", "toolNames", "maxAgentSteps",
    "specialization", "skills", "isActive", "requiresReview", "qualityThreshold", "qualityCriteria",
}  # fmt: skip
TOOL_KEYS = {
    "toolName", "displayName", "description", "inputSchema", "exampleInputs", "departments", "isGlobal", "isActive",
    "version",
}  # fmt: skip


def read_agent(path: Path) -> Document:
    """One agent file: its front matter, and the prose behind it as `instructionsPrompt`."""
    _, front_matter, prose = path.read_text(encoding="utf-8").split("---\n", 2)
    return {**yaml.safe_load(front_matter), "instructionsPrompt": prose.strip(), "path": path}


def read_tool(folder: Path) -> Document:
    """One tool folder: `tool.yaml`, and where it lies."""
    return {**yaml.safe_load((folder / "tool.yaml").read_text(encoding="utf-8")), "folder": folder}


AGENTS = [read_agent(path) for path in sorted(SEEDS.glob("agents/*/*.md"))]
TOOLS = {folder.name: read_tool(folder) for folder in sorted(SEEDS.glob("custom-tools/*"))}

each_agent = pytest.mark.parametrize("agent", AGENTS, ids=[agent["agentId"] for agent in AGENTS])
each_tool = pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))


def objects_in(schema: Document) -> list[Document]:
    """The schema itself, if it is an object's, and all object schemas inside it."""
    if schema["type"] == "array":
        return objects_in(schema["items"])
    inner = [found for prop in schema.get("properties", {}).values() for found in objects_in(prop)]
    return [schema, *inner] if schema["type"] == "object" else []


def test_the_six_departments_are_those_of_the_specification() -> None:
    expected = [
        {
            "slug": slug,
            "name": name,
            "description": description,
            "icon": icon,
            "color": color,
            "priority": priority,
            "defaultModel": "anthropic/claude-sonnet-4.5",
            "isActive": True,
            "maxAgentSteps": 20,
        }
        for slug, name, description, icon, color, priority in DEPARTMENTS
    ]

    departments = yaml.safe_load((SEEDS / "departments.yaml").read_text(encoding="utf-8"))["departments"]

    assert [{name: one[name] for name in one if name != "qualityCriteria"} for one in departments] == expected
    assert all(3 <= len(one["qualityCriteria"]) <= 20 for one in departments)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_department_has_one_head_and_at_least_three_specialists(slug: str) -> None:
    members = [agent for agent in AGENTS if agent["department"] == slug]

    heads = [agent["agentId"] for agent in members if agent["isDepartmentHead"]]

    assert heads == [f"{slug}-head-001"]
    assert len(members) >= 4


def test_there_are_at_least_24_agents_with_ids_of_their_own() -> None:
    ids = [agent["agentId"] for agent in AGENTS]

    assert len(ids) >= 24
    assert len(ids) == len(set(ids))


def test_the_story_department_has_its_four_specialists() -> None:
    specialists = {a["agentId"] for a in AGENTS if a["department"] == "story" and not a["isDepartmentHead"]}

    assert specialists == {
        "plot-specialist-001",
        "dialogue-specialist-001",
        "theme-specialist-001",
        "pacing-specialist-001",
    }


@each_agent
def test_an_agent_obeys_the_rules_of_the_catalog(agent: Document) -> None:
    assert set(agent) == AGENT_KEYS | {"instructionsPrompt", "path"}
    assert agent["path"].parts[-2:] == (agent["department"], f"{agent['agentId']}.md")
    assert agent["department"] in SLUGS
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*-\d{3}", agent["agentId"])
    assert agent["model"] in ALLOWED_MODELS
    assert 5 <= agent["maxAgentSteps"] <= 100
    assert 70 <= agent["qualityThreshold"] <= 85
    assert agent["requiresReview"] is not agent["isDepartmentHead"]
    assert agent["isActive"] is True
    assert agent["skills"]
    assert all(isinstance(skill, str) for skill in agent["skills"])
    assert all(isinstance(criterion, str) for criterion in agent["qualityCriteria"])
    assert 1 <= len(agent["qualityCriteria"]) <= 20


@each_agent
def test_an_agents_tools_exist_and_are_offered_to_its_department(agent: Document) -> None:
    tools = [TOOLS[name] for name in agent["toolNames"]]

    assert tools
    assert all(tool["isGlobal"] or agent["department"] in tool["departments"] for tool in tools)
    assert all(name in agent["instructionsPrompt"] for name in agent["toolNames"])


@each_agent
def test_an_agents_instructions_are_of_a_length_worth_reading(agent: Document) -> None:
    words = len(agent["instructionsPrompt"].split())

    assert 120 <= words <= 350


def test_no_two_agents_share_a_paragraph() -> None:
    paragraphs = [part.strip() for agent in AGENTS for part in agent["instructionsPrompt"].split("\n\n")]

    assert len(paragraphs) == len(set(paragraphs))


@each_tool
def test_a_tool_obeys_the_rules_of_the_catalog(tool: Document) -> None:
    assert set(tool) == TOOL_KEYS | {"folder"}
    assert tool["toolName"] == tool["folder"].name
    assert re.fullmatch(r"[a-z][a-zA-Z0-9]*", tool["toolName"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", tool["version"])
    assert tool["isActive"] is True
    assert len(tool["exampleInputs"]) >= 2
    assert tool["inputSchema"]["type"] == "object"
    assert tool["inputSchema"]["required"]


@each_tool
def test_a_tool_describes_every_property_and_refuses_unknown_ones(tool: Document) -> None:
    for schema in objects_in(tool["inputSchema"]):
        assert schema["additionalProperties"] is False
        assert all(prop.get("description") for prop in schema["properties"].values())


@each_tool
def test_a_tool_is_offered_to_exactly_the_departments_that_use_it(tool: Document) -> None:
    users = {agent["department"] for agent in AGENTS if tool["toolName"] in agent["toolNames"]}

    assert users
    assert set(tool["departments"]) == (set() if tool["isGlobal"] else users)


def test_there_are_at_least_ten_tools() -> None:
    assert len(TOOLS) >= 10

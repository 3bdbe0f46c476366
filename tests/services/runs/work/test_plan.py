"""Plans: what of a head's answer can be used."""

from typing import Any

import pytest

from app.models.base import Relation
from app.services.catalog.definitions import AgentDefinition, DepartmentDefinition
from app.services.llm.messages.structured_output import AnswerSchema
from app.services.prompts.heads import plan_schema
from app.services.runs.work.plan import DEFAULT_INSTRUCTIONS, Assignment, Plan, plan_for_all, usable_plan
from tests.fixtures.model_server import Json

DEPARTMENT = DepartmentDefinition(Relation(), "writers", "Writers", "", 1, "openai/gpt-4", 20, is_active=True)


def specialist(agent_id: str) -> AgentDefinition:
    """A specialist of the writers."""
    return AgentDefinition(
        id=Relation(),
        agent_id=agent_id,
        name=agent_id.title(),
        description="",
        department=DEPARTMENT,
        is_department_head=False,
        model="openai/gpt-4",
        instructions="",
        max_steps=20,
        specialization=None,
        skills=(),
        requires_review=True,
        quality_threshold=80,
        tools=(),
    )


TEAM = tuple(map(specialist, ("ada", "bob", "cyd")))


def plan(*assignments: tuple[str, list[str]], **extra: Any) -> Json:  # noqa: ANN401 - any JSON
    """A plan's JSON from (agent, dependsOn)."""
    rows = [{"agentId": name, "instructions": f"Do {name}.", "dependsOn": after} for name, after in assignments]
    return {"assignments": rows, "rationale": "Because.", **extra}


def test_a_plan_is_used_as_the_head_made_it() -> None:
    used = usable_plan(plan(("cyd", []), ("ada", ["cyd"])), TEAM)

    assert used == Plan(
        (Assignment("cyd", "Do cyd.", ()), Assignment("ada", "Do ada.", ("cyd",))),
        "Because.",
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "schema"),
        (plan(), "no one"),
        (plan(("ada", []), ("ada", [])), "twice"),
        (plan(("ada", []), ("dan", [])), "dan"),
        (plan(("ada", ["dan"])), "dan"),
        (plan(("ada", ["ada"])), "circle"),
        (plan(("ada", ["bob"]), ("bob", ["ada"])), "circle"),
        (plan(("ada", ["cyd"]), ("bob", ["ada"]), ("cyd", ["bob"])), "circle"),
    ],
)
def test_a_plan_without_use_is_refused_with_the_reason(value: Json | None, reason: str) -> None:
    refused = usable_plan(value, TEAM)

    assert isinstance(refused, str)
    assert reason in refused


def test_a_dependency_on_an_unassigned_agent_is_dropped() -> None:
    used = usable_plan(plan(("ada", ["bob", "cyd"]), ("bob", ["cyd", "cyd"])), TEAM)

    assert isinstance(used, Plan)
    assert [one.depends_on for one in used.assignments] == [("bob",), ()]


def test_a_diamond_is_no_circle() -> None:
    team = (*TEAM, specialist("dan"))
    value = plan(("ada", []), ("bob", ["ada"]), ("cyd", ["ada"]), ("dan", ["bob", "cyd", "bob"]))

    used = usable_plan(value, team)

    assert isinstance(used, Plan)
    assert used.assignments[3].depends_on == ("bob", "cyd")


def test_without_a_usable_plan_everybody_works_at_once_and_the_reason_is_kept() -> None:
    fallback = plan_for_all(TEAM, "it assigns no one")

    assert fallback.assignments == tuple(Assignment(name, DEFAULT_INSTRUCTIONS) for name in ("ada", "bob", "cyd"))
    assert "it assigns no one" in fallback.rationale


def test_a_plan_survives_its_way_through_an_event() -> None:
    used = usable_plan(plan(("ada", []), ("bob", ["ada"])), TEAM)

    assert isinstance(used, Plan)
    assert Plan.from_json(used.as_json()) == used


def test_a_plan_is_cleaned_of_values_that_mongodb_cannot_store_and_its_long_texts_are_cut() -> None:
    value = plan(("ada", []), rationale="Why \ud800?")
    value["assignments"][0]["instructions"] = "x" * 100_000

    used = Plan.from_json(value)

    assert used.rationale == "Why ??"
    assert len(used.assignments[0].instructions) == 20_000


@pytest.mark.parametrize(
    "value",
    [
        plan(("ada", []), ("head", [])),
        plan(("ada", ["unknown"])),
        {"assignments": []},
        {"assignments": [{"agentId": "ada", "instructions": "x"}], "rationale": ""},
        plan(("ada", []), more=True),
    ],
)
def test_the_schema_that_the_model_gets_allows_members_of_the_team_alone(value: Json) -> None:
    assert AnswerSchema("plan", plan_schema(TEAM)).problems(value)
    assert AnswerSchema("plan", plan_schema(TEAM)).problems(plan(("ada", ["bob"]))) == []

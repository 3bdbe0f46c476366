"""A head's plan: which specialists work, with what instructions and in what order."""

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from app.kit.json_values import JsonObject, clean_text
from app.services.catalog.definitions import AgentDefinition

MAX_INSTRUCTION_CHARACTERS = 20_000
DEFAULT_INSTRUCTIONS = (
    "Contribute what your craft has to say to the request below, in the form your instructions ask for."
)


@dataclass(frozen=True)
class Assignment:
    """One specialist's part; `depends_on` are the agents whose output it needs first."""

    agent_id: str
    instructions: str
    depends_on: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """Return the wire form."""
        return {"agentId": self.agent_id, "instructions": self.instructions, "dependsOn": list(self.depends_on)}


@dataclass(frozen=True)
class Plan:
    """The assignments, and the head's reasons for them."""

    assignments: tuple[Assignment, ...]
    rationale: str

    def as_json(self) -> JsonObject:
        """Return the wire form."""
        return {"assignments": [one.as_json() for one in self.assignments], "rationale": self.rationale}

    @classmethod
    def from_json(cls, value: JsonObject) -> "Plan":
        """Return the plan in its wire form."""
        assignments = tuple(
            Assignment(
                one["agentId"],
                clean_text(one["instructions"])[:MAX_INSTRUCTION_CHARACTERS],
                tuple(dict.fromkeys(one["dependsOn"])),
            )
            for one in value["assignments"]
        )
        return cls(assignments, clean_text(value["rationale"])[:MAX_INSTRUCTION_CHARACTERS])


def usable_plan(value: JsonObject | None, specialists: tuple[AgentDefinition, ...]) -> Plan | str:
    """Return the plan in a model's answer that matched the schema, or the reason why it cannot be used."""
    if value is None:
        return "it did not match the schema"
    plan = Plan.from_json(value)
    planned = [one.agent_id for one in plan.assignments]
    known = {agent.agent_id for agent in specialists}
    if not planned:
        return "it assigns no one"
    if len(set(planned)) < len(planned):
        return "it assigns an agent twice"
    unknown = sorted({*planned, *(name for one in plan.assignments for name in one.depends_on)} - known)
    if unknown:
        return f"it names {', '.join(unknown)}, which are not agents of the department"
    present = [
        Assignment(one.agent_id, one.instructions, tuple(name for name in one.depends_on if name in planned))
        for one in plan.assignments
    ]
    try:
        TopologicalSorter({one.agent_id: one.depends_on for one in present}).prepare()
    except CycleError:
        return "its dependencies run in a circle"
    return Plan(tuple(present), plan.rationale)


def plan_for_all(specialists: tuple[AgentDefinition, ...], reason: str) -> Plan:
    """Return the plan that replaces an unusable one: all specialists at once."""
    assignments = tuple(Assignment(agent.agent_id, DEFAULT_INSTRUCTIONS) for agent in specialists)
    return Plan(assignments, f"The plan could not be used ({reason}), so all specialists work at once.")

"""The crafts of the demo model: how each is recognized, its assignment, and the template of its work."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from app.services.llm.calls import AgentProfile

BODY = re.compile(r"\A---\n(?P<front>.*?)\n---\n(?P<body>.*)\Z", re.S)
DEPARTMENT_CRAFTS = {
    "story": "plot",
    "character": "arcs",
    "visual": "cinematography",
    "video": "editing",
    "audio": "sound",
    "production": "scheduling",
}


@dataclass(frozen=True)
class Craft:
    """A craft: `words` identify it in an agent's description, `after` are the crafts whose output it builds on.

    `assignment`, `thinking` and `body` are templates over the words of a story; `approval` ends "Approved: …".
    """

    slug: str
    title: str
    words: tuple[str, ...]
    after: tuple[str, ...]
    assignment: str
    thinking: str
    approval: str
    body: str


GENERAL = Craft(
    slug="general",
    title="Notes",
    words=(),
    after=(),
    assignment=(
        "Answer the request from the side of your craft: what the $length asks of it, what you would do, in which "
        "order, and what has to be settled first. The question of the film is fixed: $question $check"
    ),
    thinking=(
        "Before I advise on anything I want one figure that does not depend on taste. I will run $tools on what the "
        "request gives us, and continue from there."
    ),
    approval="it is concrete, it stays within its craft, and it names what it could not know",
    body="",
)


@lru_cache(maxsize=1)
def crafts() -> dict[str, Craft]:
    """Return every craft by its slug."""
    folder = Path(__file__).parent / "crafts"
    read = [read_craft(path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.md"))]
    return {craft.slug: craft for craft in read}


def read_craft(slug: str, text: str) -> Craft:
    """Return a craft from its file: front matter, then the template of its work."""
    parts = BODY.match(text)
    assert parts is not None, slug  # noqa: S101 - the package's own file
    front = yaml.safe_load(parts["front"])
    return Craft(
        slug=slug,
        title=front["title"],
        words=tuple(front["words"]),
        after=tuple(front["after"]),
        assignment=front["assignment"],
        thinking=front["thinking"],
        approval=front["approval"],
        body=parts["body"].strip(),
    )


def craft_of(identity: str, details: str = "") -> Craft:
    """Find an agent's craft; words in `identity` (id, name, specialization) count three times as much as `details`."""
    scores = {
        craft.slug: sum(3 * in_text(word, identity) + in_text(word, details) for word in craft.words)
        for craft in crafts().values()
    }
    best = max(scores, key=lambda slug: scores[slug])
    return crafts()[best] if scores[best] else GENERAL


def in_text(word: str, text: str) -> int:
    """Return the number of words of a text that begin with `word`, at most three, weighted by the length of `word`."""
    hits = len(re.findall(rf"\b{re.escape(word)}", text, re.I))
    return min(hits, 3) * len(word.split("-")) * len(word.split())


def craft_of_agent(agent: AgentProfile) -> Craft:
    """Return the craft of an agent; a head has that of its department."""
    department = next((slug for slug in DEPARTMENT_CRAFTS if slug in agent.department.lower()), None)
    is_head = "head" in agent.agent_id.split("-") or agent.name.lower().startswith("head ")
    if is_head and department:
        return crafts()[DEPARTMENT_CRAFTS[department]]
    return craft_of(f"{agent.agent_id} {agent.name} {agent.specialization}", ", ".join(agent.skills))

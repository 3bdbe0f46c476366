"""How the demo model reports as a head: what the specialists brought, made into one result."""

import re
from dataclasses import dataclass

from app.demo.studio.crafts import craft_of, craft_of_role, crafts
from app.demo.studio.excerpts import (
    asks_in,
    finding_in,
    gist_of,
    is_closing,
    limited,
    measured_in,
    open_points,
    sections_of,
    sentences_of,
)
from app.demo.studio.figures import describe_outcomes
from app.demo.studio.plans import phrase
from app.demo.studio.premise import read_premise
from app.demo.studio.reading import Role, asks, materials, request_of, tool_outcomes, without_fences
from app.demo.studio.story import words_of
from app.demo.studio.works import write_work
from app.kit.json_values import JsonObject

STANDING = re.compile(
    r"^(?P<name>[^\n]+?) \((?P<agent_id>[\w.-]+)\): (?P<status>[\w -]+?), (?:review (?P<review>[\w -]+), )?"
    r"(?:score (?P<score>[\d.]+) of 100|no score)\.(?P<problem>[^\n]*)$",
    re.M,
)
SETTLED = ("approved", "none", "not required", "not-required", "unreviewed", "pending")
NEXT_STEPS = {
    "story": ("Turn the beat map into a step outline, one page to an act", "Read the scene aloud with two actors"),
    "character": ("Fix the cast table and share it", "Arrange the chemistry reads"),
    "visual": ("Put the look on one page with three reference frames", "Scout the difficult place at the right hour"),
    "video": ("Cut the key sequence with temp sound", "Test the darkest scene on three screens"),
    "audio": ("Record the places before the sets are struck", "Lay the pulse under reel one as a test"),
    "production": ("Quote the two uncertain lines", "Draw the board around the night block"),
}
USUAL_STEPS = ("Settle the open points with whoever asked", "Write the next draft on this basis")
WORDS_OF_WORKS = 165
DECISIONS = ("agreed, and done first", "agreed, in the next draft", "held until both have read each other's pages")
LEAST_WORDS_OF_WORK = 38
MOST_ENTRIES = 12
AS_ONE_QUESTION = "reads it as one question"
NOBODY_FAILED = "Nobody failed, and no work stands against its review."
FAILED_LINE = re.compile(r"^(?:[-*] )?(?P<line>[^\n]{3,140}\bfailed\b[^\n]{0,60})$", re.M)


@dataclass(frozen=True)
class Entry:
    """One work in a report, and how it stands; `problem` says why there is no work."""

    title: str
    name: str
    status: str
    review: str
    score: float | None
    text: str
    problem: str

    @property
    def is_sound(self) -> bool:
        """Whether there is work that nobody objects to."""
        return bool(self.text) and self.status == "completed" and self.review in SETTLED


def entries_in(messages: list[JsonObject]) -> list[Entry]:
    """The works that the latest ask brings, in its order."""
    ask = asks(messages)[-1] if asks(messages) else ""
    standings = {found["agent_id"]: found for found in STANDING.finditer(without_fences(ask))}
    texts = {fence.label.rpartition(" ")[2]: fence.text for fence in materials(messages)}
    found: list[Entry] = []
    for key in dict.fromkeys([*texts, *standings]):
        standing = standings.get(key)
        name = standing["name"] if standing else key.replace("-", " ").title()
        craft = craft_of(f"{key} {name}")
        title = craft.title if craft.slug in crafts() and standing else name
        taken = title in {entry.title for entry in found}
        score = standing["score"] if standing else None
        found.append(
            Entry(
                title=f"{title} ({name})" if taken else title,
                name=name,
                status=standing["status"] if standing else "completed",
                review=(standing["review"] if standing else None) or "none",
                score=float(score) if score and score.count(".") < 2 and score.strip(".") else None,
                text=texts.get(key, "").strip(),
                problem=standing["problem"].strip() if standing else "",
            )
        )
    return found[:MOST_ENTRIES]


def write_report(messages: list[JsonObject], role: Role) -> str:
    """The report on the works in the latest ask; without any, on the request itself."""
    entries = entries_in(messages)
    premise = read_premise(request_of(messages))
    words = words_of(premise)
    outcomes = tool_outcomes(messages)
    ask = without_fences(asks(messages)[-1]) if asks(messages) else ""
    if not any(entry.text for entry in entries):
        return report_alone(messages, role, entries, words)
    delivered = [entry for entry in entries if entry.text]
    each = max(WORDS_OF_WORKS // len(delivered), LEAST_WORDS_OF_WORK)
    parts = [f"## Summary\n{summary(entries, role, words)}"]
    parts += [f"## {entry.title}\n{digest(entry, each, words['logline'])}" for entry in delivered]
    if outcomes:
        facts = describe_outcomes(outcomes, explained=False)
        parts.append(f"## Checked for this report\n{measured_in(facts, 40) or facts}")
    settled = settlements(delivered)
    if settled:
        parts.append(f"## Contradictions and how we settled them\n{settled}")
    parts.append(f"## Open points\n{open_list(entries, ask)}")
    parts.append(f"## Next steps\n{next_steps(entries, role)}")
    return "\n\n".join(parts)


def summary(entries: list[Entry], role: Role, words: dict[str, str]) -> str:
    """Three to five sentences: what the film is, who worked, what was found."""
    delivered = [entry for entry in entries if entry.text]
    told = [f"{words['logline']}.", f"The {role.department} {AS_ONE_QUESTION}: {words['question']}"]
    sound = sum(entry.is_sound for entry in entries)
    scores = sorted(entry.score for entry in entries if entry.score is not None)
    span = f", with scores from {scores[0]:g} to {scores[-1]:g} of 100" if len(scores) > 1 else ""
    titles = phrase([in_sentence(entry.title) for entry in delivered])
    told.append(f"This report joins {titles}; {sound} of {len(entries)} parts can be built on as they are{span}.")
    findings = {finding_in(entry.text): entry.title for entry in reversed(delivered)}
    found = [f"What {in_sentence(title)} found: {limited(text, 24)}" for text, title in findings.items() if text]
    told += found[:-3:-1]
    return " ".join(told)


def in_sentence(title: str) -> str:
    """A title as it stands within a sentence."""
    return title if title.istitle() and " " in title else title[:1].lower() + title[1:]


def digest(entry: Entry, most_words: int, known: str) -> str:
    """A work in its own words: how it begins, what it turns on, what it measured; without what is `known` already."""
    body = [(heading, text) for heading, text in sections_of(entry.text) if not is_closing(heading)]
    measured = measured_in(entry.text, most_words // 3 + 3)
    left = most_words - len(measured.split())
    told: list[str] = []
    for place, (heading, text) in enumerate(body):
        fresh = " ".join(one for one in sentences_of(text) if known not in one and AS_ONE_QUESTION not in one)
        gist = limited(fresh, most_words // 3) if place == 0 and fresh else gist_of(text, most_words // 3)
        if gist and known not in gist and len(gist.split()) + len(heading.split()) <= left:
            told.append(f"- {gist}" if place == 0 and fresh else f"- **{heading}:** {gist}" if heading else f"- {gist}")
            left -= len(told[-1].split())
    told += [f"- {measured}"] if measured else []
    return "\n".join(told) or f"- {limited(entry.text, most_words)}"


def settlements(delivered: list[Entry]) -> str:
    """What the crafts ask of each other, and what the head decides."""
    wishes = [(entry, whom, what) for entry in delivered for whom, what in asks_in(entry.text)]
    present = " ".join(f"{entry.title} {entry.name}".lower() for entry in delivered)
    told: list[str] = []
    for decision, (entry, whom, what) in zip(DECISIONS, wishes, strict=False):
        here = any(word[:5].lower() in present for word in whom.split() if len(word) > 3)
        settled = decision if here else "passed on to the department that owns it"
        told.append(f"- {entry.title} asks of {whom}: {limited(what, 16)} Decision: {settled}.")
    return "\n".join(told)


def open_list(entries: list[Entry], ask: str) -> str:
    """Who failed or was not approved, then what the works leave open."""
    told: list[str] = []
    for entry in entries:
        if entry.is_sound:
            continue
        if entry.text:
            told.append(f"- {entry.name}: review {entry.review}, {entry.status}; used here with that reservation.")
        else:
            told.append(f"- {entry.name}: {entry.status}, no work to report. {limited(entry.problem, 20)}".rstrip(" …"))
    told += [f"- {found['line'].strip()}" for found in FAILED_LINE.finditer(ask) if not STANDING.match(found[0])][:4]
    if not told:
        told.append(f"- {NOBODY_FAILED}")
    points = [(entry, [one for one in open_points(entry.text) if one != NOBODY_FAILED]) for entry in entries]
    left = [(entry, point) for entry, found in points for point in found[:1]]
    told += [f"- {entry.title}: {limited(point, 20)}" for entry, point in left[:2]]
    return "\n".join(told)


def next_steps(entries: list[Entry], role: Role) -> str:
    """What should happen next, in order."""
    department = next((slug for slug in NEXT_STEPS if slug in role.department.lower()), "")
    first, second = NEXT_STEPS.get(department, USUAL_STEPS)
    again = [entry.name for entry in entries if not entry.is_sound]
    third = f"Ask {phrase(again)} for another draft" if again else "Hand this report on, with the open points attached"
    return f"1. {first}.\n2. {second}.\n3. {third}."


def report_alone(messages: list[JsonObject], role: Role, entries: list[Entry], words: dict[str, str]) -> str:
    """The report of a head without works: the request, seen from the department's own craft."""
    work = write_work(messages)
    craft = craft_of_role(role)
    opening = (
        "No specialist's work is at hand, so this is the head's own answer." if entries else "The head answers alone."
    )
    told = (
        f"{words['logline']}: the {role.department} reads this {words['length']} as one question, {words['question']} "
        f"{opening} What follows covers {craft.title[:1].lower()}{craft.title[1:]} and says what it could not know."
    )
    kept = [(heading, body) for heading, body in sections_of(work) if not is_closing(heading)]
    left = [f"- {point}" for point in open_points(work)[:2]]
    parts = [f"## Summary\n{told}", *(f"## {heading or 'Notes'}\n{body}" for heading, body in kept[:6])]
    opened = open_list(entries, "") if entries else ""
    parts.append("## Open points\n" + "\n".join([*([opened] if opened else []), *left]))
    parts.append(f"## Next steps\n{next_steps([], role)}")
    return "\n\n".join(parts)

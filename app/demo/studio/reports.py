"""A head's report as the demo model writes it: the specialists' works, combined into one result."""

import re
from dataclasses import dataclass

from app.demo.studio.crafts import craft_of, craft_of_agent, crafts
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
from app.demo.studio.reading import Conversation, asks, materials, request_of, tool_results, without_fences
from app.demo.studio.story import words_of
from app.demo.studio.works import write_work

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
NO_FAILURE = "Every specialist delivered, and no review objects."
FAILED_LINE = re.compile(r"^(?:[-*] )?(?P<line>[^\n]{3,140}\bfailed\b[^\n]{0,60})$", re.M)


@dataclass(frozen=True)
class ReportedWork:
    """One work in a report, with its status; `problem` says why the work is missing."""

    title: str
    name: str
    status: str
    review: str
    score: float | None
    text: str
    problem: str

    @property
    def is_sound(self) -> bool:
        """Whether the work is complete and no review objects to it."""
        return bool(self.text) and self.status == "completed" and self.review in SETTLED


def entries_in(conversation: Conversation) -> list[ReportedWork]:
    """Return the works in the latest ask, in its order."""
    ask = asks(conversation)[-1] if asks(conversation) else ""
    standings = {found["agent_id"]: found for found in STANDING.finditer(without_fences(ask))}
    texts = {fence.label.rpartition(" ")[2]: fence.text for fence in materials(conversation)}
    found: list[ReportedWork] = []
    for key in dict.fromkeys([*texts, *standings]):
        standing = standings.get(key)
        name = standing["name"] if standing else key.replace("-", " ").title()
        craft = craft_of(f"{key} {name}")
        title = craft.title if craft.slug in crafts() and standing else name
        taken = title in {entry.title for entry in found}
        score = standing["score"] if standing else None
        found.append(
            ReportedWork(
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


def write_report(conversation: Conversation) -> str:
    """Return the report on the works in the latest ask, or on the request itself without them."""
    department = conversation.agent.department
    entries = entries_in(conversation)
    premise = read_premise(request_of(conversation))
    words = words_of(premise)
    outcomes = tool_results(conversation)
    ask = without_fences(asks(conversation)[-1]) if asks(conversation) else ""
    if not any(entry.text for entry in entries):
        return report_alone(conversation, entries, words)
    delivered = [entry for entry in entries if entry.text]
    each = max(WORDS_OF_WORKS // len(delivered), LEAST_WORDS_OF_WORK)
    parts = [f"## Summary\n{summary(entries, department, words)}"]
    parts += [f"## {entry.title}\n{digest(entry, each, words['logline'])}" for entry in delivered]
    if outcomes:
        facts = describe_outcomes(outcomes, explained=False)
        parts.append(f"## Checked for this report\n{measured_in(facts, 40) or facts}")
    settled = settlements(delivered)
    if settled:
        parts.append(f"## Contradictions and how we settled them\n{settled}")
    parts.append(f"## Open points\n{open_list(entries, ask)}")
    parts.append(f"## Next steps\n{next_steps(entries, department)}")
    return "\n\n".join(parts)


def summary(entries: list[ReportedWork], department: str, words: dict[str, str]) -> str:
    """Return three to five sentences: the film, the works that are joined, and their findings."""
    delivered = [entry for entry in entries if entry.text]
    lines = [f"{words['logline']}.", f"The {department} {AS_ONE_QUESTION}: {words['question']}"]
    sound = sum(entry.is_sound for entry in entries)
    scores = sorted(entry.score for entry in entries if entry.score is not None)
    span = f", with scores from {scores[0]:g} to {scores[-1]:g} of 100" if len(scores) > 1 else ""
    titles = phrase([in_sentence(entry.title) for entry in delivered])
    lines.append(f"This report joins {titles}; {sound} of {len(entries)} parts can be built on as they are{span}.")
    findings = {finding_in(entry.text): entry.title for entry in reversed(delivered)}
    found = [f"What {in_sentence(title)} found: {limited(text, 24)}" for text, title in findings.items() if text]
    lines += found[:-3:-1]
    return " ".join(lines)


def in_sentence(title: str) -> str:
    """Return a title as it is written within a sentence."""
    return title if title.istitle() and " " in title else title[:1].lower() + title[1:]


def digest(entry: ReportedWork, most_words: int, known: str) -> str:
    """Excerpt a work: its beginning, sections and measurements; sentences with the `known` text are left out."""
    body = [(heading, text) for heading, text in sections_of(entry.text) if not is_closing(heading)]
    measured = measured_in(entry.text, most_words // 3 + 3)
    left = most_words - len(measured.split())
    lines: list[str] = []
    for place, (heading, text) in enumerate(body):
        fresh = " ".join(item for item in sentences_of(text) if known not in item and AS_ONE_QUESTION not in item)
        gist = limited(fresh, most_words // 3) if place == 0 and fresh else gist_of(text, most_words // 3)
        if gist and known not in gist and len(gist.split()) + len(heading.split()) <= left:
            lines.append(
                f"- {gist}" if place == 0 and fresh else f"- **{heading}:** {gist}" if heading else f"- {gist}"
            )
            left -= len(lines[-1].split())
    lines += [f"- {measured}"] if measured else []
    return "\n".join(lines) or f"- {limited(entry.text, most_words)}"


def settlements(delivered: list[ReportedWork]) -> str:
    """Return the requests of the crafts to each other, and the head's decisions."""
    wishes = [(entry, whom, what) for entry in delivered for whom, what in asks_in(entry.text)]
    present = " ".join(f"{entry.title} {entry.name}".lower() for entry in delivered)
    lines: list[str] = []
    for decision, (entry, whom, what) in zip(DECISIONS, wishes, strict=False):
        here = any(word[:5].lower() in present for word in whom.split() if len(word) > 3)
        settled = decision if here else "passed on to the department that owns it"
        lines.append(f"- {entry.title} asks of {whom}: {limited(what, 16)} Decision: {settled}.")
    return "\n".join(lines)


def open_list(entries: list[ReportedWork], ask: str) -> str:
    """Return the works that failed or were not approved, then the points that the works leave open."""
    lines: list[str] = []
    for entry in entries:
        if entry.is_sound:
            continue
        if entry.text:
            lines.append(f"- {entry.name}: review {entry.review}, {entry.status}; used here with that reservation.")
        else:
            lines.append(
                f"- {entry.name}: {entry.status}, no work to report. {limited(entry.problem, 20)}".rstrip(" …")
            )
    lines += [f"- {found['line'].strip()}" for found in FAILED_LINE.finditer(ask) if not STANDING.match(found[0])][:4]
    if not lines:
        lines.append(f"- {NO_FAILURE}")
    points = [(entry, [item for item in open_points(entry.text) if item != NO_FAILURE]) for entry in entries]
    left = [(entry, point) for entry, found in points for point in found[:1]]
    lines += [f"- {entry.title}: {limited(point, 20)}" for entry, point in left[:2]]
    return "\n".join(lines)


def next_steps(entries: list[ReportedWork], department: str) -> str:
    """Return the next steps, in order."""
    slug = next((slug for slug in NEXT_STEPS if slug in department.lower()), "")
    first, second = NEXT_STEPS.get(slug, USUAL_STEPS)
    again = [entry.name for entry in entries if not entry.is_sound]
    third = f"Ask {phrase(again)} for another draft" if again else "Hand this report on, with the open points attached"
    return f"1. {first}.\n2. {second}.\n3. {third}."


def report_alone(conversation: Conversation, entries: list[ReportedWork], words: dict[str, str]) -> str:
    """Return the report of a head without works: the request from the view of the department's craft."""
    work = write_work(conversation)
    craft = craft_of_agent(conversation.agent)
    opening = (
        "No specialist's work is at hand, so this is the head's own answer." if entries else "The head answers alone."
    )
    department = conversation.agent.department
    text = (
        f"{words['logline']}: the {department} reads this {words['length']} as one question, {words['question']} "
        f"{opening} What follows covers {craft.title[:1].lower()}{craft.title[1:]} and says what it could not know."
    )
    kept = [(heading, body) for heading, body in sections_of(work) if not is_closing(heading)]
    left = [f"- {point}" for point in open_points(work)[:2]]
    parts = [f"## Summary\n{text}", *(f"## {heading or 'Notes'}\n{body}" for heading, body in kept[:6])]
    opened = open_list(entries, "") if entries else ""
    parts.append("## Open points\n" + "\n".join([*([opened] if opened else []), *left]))
    parts.append(f"## Next steps\n{next_steps([], department)}")
    return "\n\n".join(parts)

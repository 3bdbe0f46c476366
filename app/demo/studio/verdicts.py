"""Judgments and reviews of the demo model, computed from the work, so that better work gets a better verdict."""

import hashlib
import re
from dataclasses import dataclass

from app.demo.studio.crafts import craft_of
from app.demo.studio.excerpts import is_closing, sections_of, sentences_of
from app.demo.studio.premise import WORD, english
from app.demo.studio.reading import Conversation, Fence, asks, fences, materials, without_fences
from app.kit.json_values import JsonObject

SPEECH = re.compile(r"^[A-Z][A-Z .'\u2019-]*: (?P<line>.+)$", re.M)
SAYS_IT_ALOUD = re.compile(r"\bI (?:am|feel|have always) \w+", re.I)
FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
HEADING = re.compile(r"^#{2,3} ", re.M)
ROW = re.compile(r"^(?:[-*|>]|\d+\.) ", re.M)
DIMENSIONS = ("confidence", "completeness", "relevance", "consistency", "creativity", "technical")
USUAL_SCORES = {"completeness": 0.87, "relevance": 0.87, "consistency": 0.83, "creativity": 0.845, "technical": 0.865}
LEAST_WORDS = 20
LEAST_SCORE, BEST_SCORE = 0.55, 0.93
LAST_DRAFT = 3
MAX_QUOTATION = 120


@dataclass(frozen=True)
class Evidence:
    """The figures of a work; `length` to `detail` are shares of the value that a full work has."""

    words: int
    figures: int
    sections: int
    length: float
    structure: float
    measured: float
    echo: float
    detail: float
    speaks_openly: bool
    revised: bool


def evidence_in(output: str, request: str) -> Evidence:
    """Return the evidence in a work, given its request."""
    words, figures, sections = len(output.split()), len(FIGURE.findall(output)), len(HEADING.findall(output))
    wanted = dict.fromkeys(
        word for word in map(str.lower, WORD.findall(request)) if len(word) > 3 and word not in english("small")
    )
    keys = list(wanted)[:12]
    text = output.lower()
    echoed = sum(word in text for word in keys)
    return Evidence(
        words=words,
        figures=figures,
        sections=sections,
        length=min(words / 240, 1),
        structure=min(sections / 5, 1),
        measured=min(figures / 14, 1),
        echo=min(echoed / max(len(keys), 1) / 0.6, 1) if keys else 0.5,
        detail=min(len(ROW.findall(output)) / 8, 1),
        speaks_openly=bool(SPEECH.search(output)) and "## Subtext" not in output,
        revised="## What changed" in output,
    )


def write_judgment(conversation: Conversation) -> JsonObject:
    """Return the six dimensions of the output in the latest ask, with a strength and a weakness."""
    outputs = [fence.text for fence in materials(conversation)]
    asked = asks(conversation)
    found = fences(asked[-1]) if asked else []
    requests = [fence.text for label in ("ASSIGNMENT", "REQUEST") for fence in found if fence.label == label]
    return judged(requests[0] if requests else "", outputs[-1] if outputs else "")


def write_judgments(conversation: Conversation, agent_ids: list[str]) -> JsonObject:
    """Return the judgments on the outputs in the latest ask, which are in the order of their agents."""
    asked = asks(conversation)
    found = fences(asked[-1]) if asked else []
    tasks = [fence.text for fence in found if fence.label == "ASSIGNMENT"]
    requests = [fence.text for fence in found if fence.label == "REQUEST"]
    outputs = [fence.text for fence in found if fence.label == "OUTPUT"]
    rows = zip(agent_ids, tasks or requests, outputs, strict=False)
    return {"verdicts": [{"agentId": agent_id, **judged(request, output)} for agent_id, request, output in rows]}


def judged(request: str, output: str) -> JsonObject:
    """Return the six dimensions of an output, given its request."""
    found = evidence_in(output, without_fences(request) or request)
    if found.words < LEAST_WORDS:
        low = round(0.3 * found.words / LEAST_WORDS, 2)
        reasoning = "There is hardly any work to judge; nothing in it answers the request."
        return {**dict.fromkeys(DIMENSIONS, low), "reasoning": reasoning}
    scores = {name: graded(score, name, output) for name, score in raw_scores(found).items()}
    return {**scores, "reasoning": reasoning_of(output, found, scores)}


def raw_scores(found: Evidence) -> dict[str, float]:
    """Return the dimensions that follow from the evidence."""
    open_speech, revision = 0.06 * found.speaks_openly, 0.04 * found.revised
    scores = {
        "completeness": 0.48
        + 0.2 * found.length
        + 0.14 * found.structure
        + 0.06 * found.detail
        - open_speech
        + revision,
        "relevance": 0.56 + 0.3 * found.echo + 0.04 * found.structure,
        "consistency": 0.62 + 0.1 * found.structure + 0.08 * found.measured + 0.04 * found.length + revision,
        "creativity": 0.58 + 0.12 * found.detail + 0.1 * found.length + 0.05 * found.echo - open_speech + revision,
        "technical": 0.52
        + 0.22 * found.measured
        + 0.1 * found.detail
        + 0.04 * found.structure
        - open_speech
        + revision,
    }
    return {"confidence": sum(scores.values()) / len(scores), **scores}


def graded(score: float, name: str, output: str) -> float:
    """Return a score within the usual range, moved by up to two hundredths depending on the text."""
    mood = int(hashlib.sha256(f"{name} {output}".encode("utf-8", "replace")).hexdigest()[:4], 16) / 0xFFFF
    return round(min(max(score + (mood - 0.5) * 0.04, LEAST_SCORE), BEST_SCORE), 2)


def reasoning_of(output: str, found: Evidence, scores: dict[str, float]) -> str:
    """Return a strength and a weakness, each with a section that shows it."""
    strengths = {
        "completeness": f"covers its ground in {found.sections} sections and {found.words} words",
        "relevance": "stays close to the request and uses its own people, places and images",
        "consistency": "is of one piece: its sections build on each other",
        "creativity": "makes choices that could not be moved into another story",
        "technical": f"argues with {found.figures} figures where it could have argued with adjectives",
    }
    weaknesses = {
        "completeness": "leaves out part of what was asked",
        "relevance": "would hold for other films too",
        "consistency": "makes claims that are not met again",
        "creativity": "takes the expected choice where the premise allows a bolder one",
        "technical": "relies on judgment that could have been measured",
    }
    above = {name: scores[name] - usual for name, usual in USUAL_SCORES.items()}
    best = max(strengths, key=lambda name: above[name])
    worst = min(weaknesses, key=lambda name: above[name])
    sections = [
        (heading, len(body.split())) for heading, body in sections_of(output) if heading and not is_closing(heading)
    ]
    fullest = max(sections, key=lambda section: section[1], default=("", 0))[0]
    thinnest = min(sections, key=lambda section: section[1], default=("", 0))[0]
    praise = f"It {strengths[best]}{f'; “{fullest}” is the strongest part' if fullest else ''}."
    if found.speaks_openly:
        return f"{praise} The dialogue still says aloud what the scene should hide, and no subtext is named."
    return f"{praise} {f'“{thinnest}” stays thin and' if thinnest not in ('', fullest) else 'It'} {weaknesses[worst]}."


def write_review(conversation: Conversation) -> JsonObject:
    """Return the head's decision on the work in the latest ask."""
    ask = asks(conversation)[-1] if asks(conversation) else ""
    reviewed = conversation.metadata.reviewed
    works = [fence for fence in fences(ask) if fence.label.startswith("WORK OF")]
    work = works[-1] if works else Fence("WORK OF", "")
    if len(work.text.split()) < LEAST_WORDS:
        return rejection(conversation.metadata.draft)
    identity = f"{reviewed.agent_id} {reviewed.name}" if reviewed else work.label
    craft = craft_of(identity)
    if craft.slug == "dialogue" and "story" in conversation.agent.department.lower() and "## Subtext" not in work.text:
        return {"decision": "revision-needed", "notes": subtext_notes(work.text)}
    kept = quotable(work.text)
    keep = f"; keep “{kept}” as it stands" if kept else ""
    return {"decision": "approved", "notes": f"Approved: {craft.approval}{keep}."}


def rejection(draft: int) -> JsonObject:
    """Return the decision on work that is missing."""
    if draft >= LAST_DRAFT:
        return {"decision": "rejected", "notes": f"Draft {draft} is still no more than a line; we continue without it."}
    return {
        "decision": "revision-needed",
        "notes": "This is too short to be used. Deliver the whole assignment, in sections, with what you could "
        "not know at the end.",
    }


def subtext_notes(work: str) -> str:
    """Return the changes that a dialogue draft without subtext needs."""
    aloud = next((line["line"] for line in SPEECH.finditer(work) if SAYS_IT_ALOUD.search(line["line"])), None)
    cut = (
        f"“{aloud}” says aloud what the scene should hide: cut it, and let the line before it carry the weight. "
        if aloud
        else ""
    )
    return (
        f"The voices are right and the scene turns. {cut}Then add a section “## Subtext”: for each speaker what is "
        "wanted, what is said instead, and the line at which the tactic changes. Measure the balance again."
    )


def quotable(work: str) -> str:
    """Return a line to praise: the last line of the scene, or the longest sentence that is short enough to quote."""
    bodies = [body for heading, body in sections_of(work) if not is_closing(heading)]
    spoken = [speech["line"] for body in bodies for speech in SPEECH.finditer(body)]
    if spoken:
        return spoken[-1].rstrip(".")
    sentences = [sentence for body in bodies for sentence in sentences_of(body) if len(sentence) <= MAX_QUOTATION]
    return max(sentences, key=len, default="").rstrip(".").replace("**", "")

"""The premise of a request as the demo model reads it: people, places, motifs and pages, the same for every agent."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+|\n|$)")
WORD = re.compile(r"[^\W\d_][\w'\u2019]*")
NAME = re.compile(r"(?<![\w'\u2019])[A-Z][a-z]{2,}(?:\s[A-Z][a-z]{2,}){0,2}(?![\w])")
TITLE = re.compile(r"^(?:(?:Detective|Inspector|Doctor|Captain|Professor|Sergeant|Agent|Father|Sister|Lady|Lord)\s)+")
DISCOVERY = re.compile(r"\b(?:discover|learn|realis|realiz|find)\w*\s+(?:out\s+)?that\s+([^.!?;]{8,160})", re.I)
ROLE_START = re.compile(r"(?:[A-Z]\w+(?:\s[A-Z]\w+){0,2},\s*)?\b(?:[Aa]n?|[Tt]he)\s+")
LENGTHS = {"feature": 100, "short": 12, "pilot": 55, "episode": 45, "series": 55, "film": 100, "movie": 100}
REFERENCE_PAGES = 110
LEAST_PAGES = 5
MAX_LOGLINE = 200
WOMEN = frozenset(("woman", "girl", "mother", "daughter", "widow", "sister", "queen", "wife", "actress"))
MEN = frozenset(("man", "boy", "father", "son", "widower", "brother", "king", "husband"))
PRONOUNS = {"her": ("her", "her", "herself"), "his": ("his", "him", "himself"), "their": ("their", "them", "themself")}


@dataclass(frozen=True)
class Person:
    """A person of the story: `part` is their role in it, `cue` is the name above their lines."""

    first: str
    last: str
    part: str

    @property
    def full(self) -> str:
        """First and last name."""
        return f"{self.first} {self.last}".strip()

    @property
    def cue(self) -> str:
        """The name in capitals."""
        return self.first.upper()


@dataclass(frozen=True)
class Premise:
    """A request as the demo model understands it; `world` is the setting."""

    logline: str
    discovery: str | None
    kind: str
    pages: int
    pages_given: bool
    wishes: str
    motifs: tuple[str, str, str]
    place: str
    hero: Person
    foil: Person
    ally: Person
    pronoun: str
    seed: int
    world: dict[str, Any] = field(hash=False, compare=False)

    def page(self, reference: int) -> int:
        """Return the page of a beat that is on this page of a screenplay of 110 pages."""
        return min(self.pages, max(1, int(reference * self.pages / REFERENCE_PAGES + 0.5)))


@lru_cache(maxsize=1)
def worlds() -> list[dict[str, Any]]:
    """Return the settings, the fallback last."""
    return yaml.safe_load((FOLDER / "worlds.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=8)
def english(kind: str) -> frozenset[str]:
    """Return the words of a kind: `orders`, `small`, `articles`, `verbs`, `before_places`, `before_nouns`."""
    return frozenset(yaml.safe_load((FOLDER / "english.yaml").read_text(encoding="utf-8"))[kind].split())


@lru_cache(maxsize=64)
def read_premise(request: str) -> Premise:
    """Read a request; any text results in a premise."""
    sentences = [found.strip() for found in SENTENCE.findall(request[:20_000]) if found.strip()]
    narrative = [sentence for sentence in sentences if not is_order(sentence)] or sentences[:1]
    logline = shortened_at_word(narrative[0].rstrip(".!?:; ") if narrative else "A story yet to be named", MAX_LOGLINE)
    seed = int(hashlib.sha256(logline.lower().encode("utf-8", "replace")).hexdigest()[:12], 16)
    story = " ".join(narrative)[:2_000]
    world = world_of(story)
    cast = world["casts"][seed % len(world["casts"])]
    names = names_in(story)
    discovery = DISCOVERY.search(story)
    role = role_in(logline)
    hero = person(names[0], role or world["role"]) if names else Person(cast["hero"][0], cast["hero"][1], role)
    others = [person(name, "") for name in names[1:3]]
    foil, ally = Person(*cast["foil"]), Person(*cast["ally"])
    pages, given = pages_of(request)
    return Premise(
        logline=logline,
        discovery=discovery[1].strip().rstrip(",") if discovery else None,
        kind=kind_of(request),
        pages=pages,
        pages_given=given,
        wishes=wishes_in(sentences),
        motifs=motifs_of(logline, f"{role} {' '.join(names)}", world),
        place=place_in(logline),
        hero=hero if hero.part else Person(hero.first, hero.last, world["role"]),
        foil=Person(others[0].first, others[0].last, foil.part) if others else foil,
        ally=Person(others[1].first, others[1].last, ally.part) if others[1:] else ally,
        pronoun=pronoun_of(story, role, cast["hero"][2] if not names else "their"),
        seed=seed,
        world=world,
    )


def is_order(sentence: str) -> bool:
    """Return whether a sentence is an instruction and not part of the story."""
    words = WORD.findall(sentence)
    return not words or words[0].lower() in english("orders")


def shortened_at_word(text: str, limit: int) -> str:
    """Return the text on one line, cut between words."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit].rpartition(' ')[0] or flat[:limit]} …"


def world_of(story: str) -> dict[str, Any]:
    """Return the setting whose words the story uses most; the first one if several are equal."""
    used = {word.lower() for word in WORD.findall(story)}
    *candidates, fallback = worlds()
    best = max(candidates, key=lambda world: sum(word in used for word in world["words"]))
    return best if any(word in used for word in best["words"]) else fallback


def names_in(story: str) -> list[str]:
    """Return the people named in the story, in order: capitalized words that are not places or sentence beginnings."""
    found: list[str] = []
    if not english("articles") & {word.lower() for word in WORD.findall(story)}:
        return found
    for match in NAME.finditer(story):
        before = story[: match.start()].rstrip()
        after = story[match.end() : match.end() + 1]
        words = match[0].split()
        begins_sentence = not before or before[-1] in '.!?:\n"“'
        previous = before.rpartition(" ")[2].lower()
        is_common = words[0].lower() in english("small") | english("orders") | english("before_places")
        is_bare_start = begins_sentence and after != "," and len(words) == 1
        if (
            not is_common
            and not is_bare_start
            and previous not in {*english("before_places"), "of", "from", "to", "the"}
        ):
            found.append(TITLE.sub("", match[0]))
    firsts = dict.fromkeys(name.split()[0] for name in found)
    return [max((name for name in found if name.split()[0] == first), key=len) for first in firsts]


def person(name: str, part: str) -> Person:
    """Return a person from a name in the request."""
    first, _, last = name.partition(" ")
    return Person(first, last, part)


def pronoun_of(story: str, role: str, otherwise: str) -> str:
    """Return the possessive pronoun of the hero, from the role or from the story's pronouns."""
    used = {word.lower() for word in WORD.findall(story)}
    if WOMEN & set(role.split()) or ({"she", "her"} & used and not {"he", "his"} & used):
        return "her"
    if MEN & set(role.split()) or ({"he", "his"} & used and not {"she", "her"} & used):
        return "his"
    return otherwise


def phrase_from(words: list[str], limit: int) -> str:
    """Return the words of a noun phrase, up to a preposition or a likely verb."""
    taken: list[str] = []
    for word in words[:limit]:
        if ends_phrase(word, begun=bool(taken)):
            break
        taken.append(word if word.isupper() else word.lower())
    return " ".join(taken)


def ends_phrase(word: str, *, begun: bool) -> bool:
    """Return whether a noun phrase is over before this word."""
    lower = word.lower()
    is_verb = begun and lower.endswith("s") and not lower.endswith(("ss", "us", "'s"))
    return is_verb or any(lower in english(kind) for kind in ("small", "before_nouns", "before_places", "verbs"))


def role_in(logline: str) -> str:
    """Return the protagonist, without the article: the phrase that begins the sentence, or an empty text."""
    text = re.sub(r"^[^:,.]{0,40}:\s*|^(?:When|After|In|On|At|Near)\s[^,]*,\s*", "", logline)
    start = ROLE_START.match(text)
    return phrase_from(WORD.findall(text[start.end() :]), 3) if start else ""


def place_in(logline: str) -> str:
    """Return the setting of the story, without the article, or an empty text."""
    found = re.search(r"\b(?:on|in|at|near|under|inside|aboard)\s+(?:an?|the)\s+", logline, re.I)
    return phrase_from(WORD.findall(logline[found.end() :]), 3) if found else ""


def motifs_of(logline: str, people: str, world: dict[str, Any]) -> tuple[str, str, str]:
    """Return three motifs: the one that this kind of story centers on, then those of the logline."""
    words = WORD.findall(logline)
    known = {*people.lower().split(), *(word for word in world["motifs"])}
    turn = words.index("that") if "that" in words else len(words)
    scores: dict[str, float] = {}
    for place, word in enumerate(words[:-1]):
        if word.lower() in english("before_nouns"):
            noun = noun_after(words[place + 1 :])
            pointed = 2 if word.lower() in {"the", "a", "an", "her", "his", "their", "its"} else 1
            if noun and noun not in known and not noun.endswith(("ing", "ed", "ly")):
                scores.setdefault(noun, pointed + (1 if place > turn else 0) - place / 1000)
    own = [word.lower() for word in words if word.lower() in world["motifs"]]
    ranked = sorted(scores, key=lambda noun: -scores[noun])
    filled = list(dict.fromkeys([*(own[:1] or [world["motif"]]), *ranked, "silence", "threshold"]))
    return filled[0], filled[1], filled[2]


def noun_after(words: list[str]) -> str:
    """Return the noun of the phrase that these words begin with, which is its last word, or an empty text."""
    noun = ""
    for word in words[:4]:
        if word[:1].isupper() or ends_phrase(word, begun=bool(noun)):
            break
        noun = word.lower() if len(word) > 3 else noun
    return noun


def kind_of(request: str) -> str:
    """Return the form that the request names: feature, short film, pilot, episode; a feature if it names none."""
    lower = request.lower()
    kind = next((kind for kind in LENGTHS if re.search(rf"\b{kind}\b", lower)), "feature")
    return {"short": "short film", "film": "feature", "movie": "feature"}.get(kind, kind)


def pages_of(request: str) -> tuple[int, bool]:
    """Return the number of pages, and whether the request states it; otherwise it is the usual number for the form."""
    found = re.search(r"\b(\d{1,3})[\s-]*(?:page|minute|min\b|pp\b)", request, re.I)
    if found and int(found[1]) >= LEAST_PAGES:
        return min(int(found[1]), 400), True
    return LENGTHS[kind_of(request).split()[0]], False


def wishes_in(sentences: list[str]) -> str:
    """Return the deliverables in the request: the list after the colon of an instruction, or an empty text."""
    for sentence in sentences:
        order, colon, listed = sentence.partition(":")
        if colon and is_order(order) and listed.strip():
            return shortened_at_word(listed.strip().rstrip(".!?"), 160)
    return ""

"""The story that the demo model makes from a premise: beats, key scenes, the clash, and words for templates."""

from dataclasses import dataclass
from functools import lru_cache
from string import Template

from app.demo.studio.premise import PRONOUNS, Premise

EIGHTHS_PER_PAGE = 8
MAX_SCENE_EIGHTHS = 400
BLUNT_PLACE = 6
"""The line of the clash before which the line that says too much is inserted."""


@dataclass(frozen=True)
class Beat:
    """A turn of the story; `late` is its delay behind its classic place, in hundredths of the length."""

    name: str
    reference_page: int
    event: str
    late: int = 0

    def page(self, premise: Premise) -> int:
        """Its page in the draft."""
        return min(premise.pages, premise.page(self.reference_page) + self.late * premise.pages // 100)


BEATS = (
    Beat("Opening image", 1, "routine"),
    Beat("Catalyst", 12, "sign", 1),
    Beat("Break into two", 25, "pressure"),
    Beat("Midpoint", 55, "wonder"),
    Beat("All is lost", 75, "cost", 4),
    Beat("Break into three", 85, "choice"),
    Beat("Final image", 110, "last"),
)
# Beat, what happens, in which place of the world, hundredths of the length, tension from 0 to 10, who is there.
SCENES = (
    ("Opening image", "routine", 1, 10, 2, "H"),
    ("First sign", "sign", 1, 12, 4, "H"),
    ("Pressure arrives", "pressure", 2, 13, 5, "HF"),
    ("The search", "search", 3, 13, 4, "HA"),
    ("Midpoint", "wonder", 4, 14, 8, "HA"),
    ("Confrontation", "clash", 5, 13, 6, "HFA"),
    ("The cost", "cost", 6, 10, 9, "FA"),
    ("The choice", "choice", 1, 15, 10, "HF"),
)


@dataclass(frozen=True)
class Scene:
    """A key scene; its length is in eighths of a page."""

    number: int
    beat: str
    place: str
    heading: str
    summary: str
    eighths: int
    tension: int
    characters: tuple[str, ...]

    @property
    def title(self) -> str:
        """Number, beat and place."""
        return f"{self.number} {self.beat}, {self.place}"


def filled(text: str, words: dict[str, str]) -> str:
    """Return a template with its words filled in; unknown words are unchanged."""
    return Template(text).safe_substitute(words)


@lru_cache(maxsize=64)
def scenes_of(premise: Premise) -> tuple[Scene, ...]:
    """Return the key scenes in story order; together they are as long as the screenplay."""
    people = {"H": premise.hero.first, "F": premise.foil.first, "A": premise.ally.first}
    words = names(premise)
    return tuple(
        Scene(
            number=number,
            beat=beat,
            place=premise.world["places"][place - 1][0],
            heading=premise.world["places"][place - 1][1],
            summary=filled(premise.world[event], words),
            eighths=min(MAX_SCENE_EIGHTHS, max(1, round(share * premise.pages * EIGHTHS_PER_PAGE / 100))),
            tension=tension,
            characters=tuple(people[letter] for letter in present),
        )
        for number, (beat, event, place, share, tension, present) in enumerate(SCENES, start=1)
    )


def names(premise: Premise) -> dict[str, str]:
    """Return the words for the texts of a world."""
    return {
        "hero": premise.hero.first,
        "foil": premise.foil.first,
        "foil_role": premise.foil.part,
        "ally": premise.ally.first,
        "motif": premise.motifs[0],
    }


def speeches_of(premise: Premise) -> list[tuple[str, str]]:
    """Return the speeches of the clash as cue and line."""
    words = names(premise)
    cues = {"hero": premise.hero.cue, "foil": premise.foil.cue}
    return [(cues[speaker], filled(line, words)) for speaker, line in premise.world["lines"]]


def clash_of(premise: Premise, *, revised: bool) -> str:
    """Return the clash as a screenplay scene; the first draft still has the line that says too much."""
    scene = scenes_of(premise)[5]
    spoken = [f"{cue}: {line}" for cue, line in speeches_of(premise)]
    if not revised:
        spoken.insert(BLUNT_PLACE, f"{premise.foil.cue}: {premise.world['blunt']}")
    return "\n".join([scene.heading, "", "No one sits down.", "", *spoken])


def screenplay_of(premise: Premise, *, revised: bool) -> str:
    """Return the key scenes as a screenplay excerpt, the clash with its dialogue."""
    parts = [
        clash_of(premise, revised=revised) if scene.beat == "Confrontation" else f"{scene.heading}\n\n{scene.summary}"
        for scene in scenes_of(premise)
    ]
    return "\n\n".join(parts)


def synopsis_of(premise: Premise) -> str:
    """Return the story in prose, a sentence to a beat."""
    return f"{premise.logline}.\n\n" + " ".join(scene.summary for scene in scenes_of(premise))


@lru_cache(maxsize=64)
def words_of(premise: Premise) -> dict[str, str]:
    """Return every word for the crafts' templates, each also with its first letter capitalized."""
    world, (their, them, themself) = premise.world, PRONOUNS[premise.pronoun]
    own = names(premise)
    given = f"{premise.pages}-page {premise.kind}" if premise.pages_given else premise.kind
    words = {
        **own,
        "hero_full": premise.hero.full,
        "foil_full": premise.foil.full,
        "ally_full": premise.ally.full,
        "role": premise.hero.part,
        "ally_role": premise.ally.part,
        "their": their,
        "them": them,
        "themself": themself,
        "logline": premise.logline,
        "truth": f"the discovery that {premise.discovery}" if premise.discovery else "what the logline promises",
        "question": filled(world["question"], own),
        "setting": f"the {premise.place}" if premise.place else f"the {world['places'][0][0]}",
        "wishes": premise.wishes or "a treatment that a writer can start from",
        "motif_two": premise.motifs[1],
        "motif_three": premise.motifs[2],
        "motifs": f"{premise.motifs[0]}, {premise.motifs[1]} and {premise.motifs[2]}",
        "length": given,
        "kind": premise.kind,
        "pages": str(premise.pages),
        "pages_source": "from the request" if premise.pages_given else "assumed, since the request gives none",
        "object": world["object"],
        "source": world["source"],
        "texture": world["texture"],
        "hazard": world["hazard"],
        "instrument": world["instrument"],
        "palette": ", ".join(f"{name} {code}" for name, code in world["colors"]),
        "beat_table": beat_table(premise),
        "scene_table": scene_table(premise),
        "page_search": str(premise.page(40)),
        "page_break_two": str(BEATS[2].page(premise)),
        "page_catalyst": str(BEATS[1].page(premise)),
        "page_mid": str(BEATS[3].page(premise)),
        "page_lost": str(BEATS[4].page(premise)),
        "page_final": str(BEATS[6].page(premise)),
    }
    words |= {f"place_{number}": place for number, (place, _) in enumerate(world["places"], start=1)}
    words |= {f"sound_{number}": sound for number, sound in enumerate(world["sounds"], start=1)}
    words |= {f"color_{number}": name for number, (name, _) in enumerate(world["colors"], start=1)}
    words |= {f"hex_{number}": code for number, (_, code) in enumerate(world["colors"], start=1)}
    words |= {f"line_{number}": line for number, (_, line) in enumerate(speeches_of(premise), start=1)}
    capitalised = {name[:1].upper() + name[1:]: text[:1].upper() + text[1:] for name, text in words.items()}
    return {**capitalised, **words, "HERO": premise.hero.cue, "FOIL": premise.foil.cue}


def beat_table(premise: Premise) -> str:
    """Return the beats with their pages as a Markdown table."""
    words = names(premise)
    rows = [f"| {beat.page(premise)} | {beat.name} | {filled(premise.world[beat.event], words)} |" for beat in BEATS]
    return "\n".join(["| Page | Beat | What happens |", "| --- | --- | --- |", *rows])


def scene_table(premise: Premise) -> str:
    """Return the key scenes with length and tension as a Markdown table."""
    rows = [f"| {scene.title} | {scene.eighths / 8:g} | {scene.tension} |" for scene in scenes_of(premise)]
    return "\n".join(["| Scene | Pages | Tension |", "| --- | --- | --- |", *rows])

"""Values for the properties of tool inputs, by the property's name and the list that contains it."""

import re
from dataclasses import dataclass
from typing import Any

from app.demo.studio.premise import Premise
from app.demo.studio.story import BEATS, Scene, scenes_of, screenplay_of, synopsis_of

Rows = dict[str, list[Any]]
SCREENPLAY_NAMES = ("screenplay", "script", "excerpt", "dialogue", "fountain")
PROSE_NAMES = ("text", "draft", "content", "body", "synopsis", "treatment", "report", "summary", "outline", "prose")
SCENE_LISTS = ("scenes", "sequences", "strips")
FRAMES_PER_SECOND = 24
# Figures that hold for any film: property name, or list and property name.
ROWS: Rows = {
    "shots.shot": ["1A", "1B", "1C", "1D", "1E"],
    "seconds": [6, 2.5, 9, 2, 5],
    "duration": [6, 2.5, 9, 2, 5],
    "size": ["WS", "MS", "CU", "INSERT", "EWS"],
    "takes": [4, 3, 6, 2, 5],
    "birthyear": [1971, 1958, 2003],
    "year": [1987, 2003, 2011],
    "events.event": ["A mistake is blamed on a child", "The post is taken up", "A guest leaves without a word"],
    "lines.account": ["2100", "2110", "3300", "5000"],
    "account": ["2100", "2110", "3300", "5000"],
    "lines.description": [
        "Director of photography",
        "Camera and lighting crew, nights",
        "Location fees",
        "Picture edit",
    ],
    "category": ["production", "production", "production", "post-production"],
    "quantity": [25, 25, 6, 12],
    "rate": [650, 1240, 1800, 2200],
    "fringepercent": [18, 18, 0, 0],
    "items.name": ["A camera, nights and dawns", "Production sound"],
    "megabitspersecond": [1000, 9.2],
    "hours": [36, 40],
    "mixes.name": ["dialogue stem", "full mix"],
    "integratedlufs": [-23.9, -23.2],
    "truepeakdbtp": [-3.4, -1.6],
    "cues.cue": ["1M1", "2M1", "3M1", "4M1"],
    "cues.title": ["Upkeep", "A Mark in the Book", "Pulse Removed", "Upkeep, Complete"],
    "cues.use": ["main-title", "score", "score", "end-title"],
    "in": ["01:00:10:00", "01:24:02:12", "01:47:30:00", "02:31:05:00"],
    "out": ["01:01:40:12", "01:25:20:00", "01:49:10:06", "02:34:00:00"],
    "timecode": ["01:00:00:00", "01:12:30:10", "01:47:30:00"],
    "marks.label": ["first frame of picture", "first sign", "answer at the midpoint"],
    "hitpoints.name": ["first pass", "book is opened", "answer"],
    "hitpoints.frame": [247, 612, 1180],
}
FIGURES: dict[str, float] = {
    "storyyear": 2019,
    "fps": FRAMES_PER_SECOND,
    "framerate": FRAMES_PER_SECOND,
    "beatsperbar": 4,
    "draft": 1,
    "confidence": 0.8,
    "completeness": 0.8,
    "relevance": 0.85,
    "consistency": 0.8,
    "creativity": 0.75,
    "technical": 0.8,
}


@dataclass(frozen=True)
class Draft:
    """The subject of a tool call: the story, whether it is revised, and a text that replaces it."""

    premise: Premise
    revised: bool = False
    text: str | None = None


def plain(name: str) -> str:
    """Return a property name without capitals and signs."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def suggestion(draft: Draft, path: tuple[str, ...], row: int) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value for the last property of the path in this row of its list, or `None` if there is no suggestion."""
    name = plain(path[-1]) if path else ""
    parent = plain(path[-2]) if len(path) > 1 else ""
    rows = {**ROWS, **rows_of_story(draft.premise)}
    for key in (f"{parent}.{name}", name):
        if key in rows:
            return rows[key][row % len(rows[key])]
    if parent in SCENE_LISTS or name in SCENE_LISTS:
        return scene_field(scenes_of(draft.premise), name, row)
    if name in FIGURES:
        return FIGURES[name]
    return story_field(draft, name, parent)


def rows_of_story(premise: Premise) -> Rows:
    """Return the rows that depend on this story."""
    people = [premise.hero.first, premise.foil.first, premise.ally.first]
    placed = [beat for beat in BEATS if beat.name not in ("Opening image", "Final image")]
    return {
        "characters.name": people,
        "cast.name": people,
        "events.characters": [people[:2], people[:1], people[:2]],
        "draftbeats.beat": [beat.name for beat in placed],
        "draftbeats.page": [beat.page(premise) for beat in placed],
        "colors.name": [name for name, _ in premise.world["colors"]],
        "palette.name": [name for name, _ in premise.world["colors"]],
        "hex": [code for _, code in premise.world["colors"]],
        "color": [code for _, code in premise.world["colors"]],
        "motifs.name": list(premise.motifs),
        "motifs.terms": [motif_terms(premise, motif) for motif in premise.motifs],
    }


def motif_terms(premise: Premise, motif: str) -> list[str]:
    """Return the words that show a motif: the word itself with any ending, and the world's synonyms."""
    others = premise.world.get("motif_terms", []) if motif == premise.world["motif"] else []
    return [f"{motif.removesuffix('s')}*", *others]


def scene_field(scenes: tuple[Scene, ...], name: str, row: int) -> Any:  # noqa: ANN401 - any JSON value
    """Return a property of a row in a list of scenes."""
    scene = scenes[row % len(scenes)]
    setting, _, time = scene.heading.rpartition(" - ")
    fields: dict[str, Any] = {
        "scene": scene.title,
        "title": scene.title,
        "name": scene.title,
        "number": scene.number,
        "scenenumber": scene.number,
        "heading": scene.heading,
        "location": scene.place,
        "place": scene.place,
        "setting": setting,
        "unit": "night" if time in ("NIGHT", "DAWN") else "day",
        "timeofday": time.lower(),
        "text": scene.summary,
        "summary": scene.summary,
        "eighths": scene.eighths,
        "pages": scene.eighths / 8,
        "tension": scene.tension,
        "characters": list(scene.characters),
        "cast": list(scene.characters),
    }
    return fields.get(name)


def story_field(draft: Draft, name: str, parent: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return a property that the story as a whole fills."""
    premise = draft.premise
    if name in SCREENPLAY_NAMES:
        return draft.text or screenplay_of(premise, revised=draft.revised)
    if name in PROSE_NAMES and not parent:
        return draft.text or synopsis_of(premise)
    fields: dict[str, Any] = {
        "pages": premise.pages,
        "pagecount": premise.pages,
        "runtimeminutes": premise.pages,
        "programseconds": premise.pages * 60,
        "bpm": 66 + premise.seed % 12,
        "tempo": 66 + premise.seed % 12,
        "characters": [premise.hero.first, premise.foil.first],
        "names": [premise.hero.first, premise.foil.first, premise.ally.first],
        "character": premise.hero.first,
        "protagonist": premise.hero.full,
        "logline": premise.logline,
        "premise": premise.logline,
        "query": premise.logline,
        "prompt": premise.logline,
        "title": f"The {premise.motifs[0].title()}",
        "genre": "drama",
        "theme": f"what the {premise.motifs[0]} is for",
        "motif": premise.motifs[0],
        "location": premise.world["places"][0][0],
    }
    return fields.get(name)

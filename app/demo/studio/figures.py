"""Tools' results as sentences: the figures by name, and an interpretation of some of them."""

import re
from collections.abc import Iterator
from typing import Any

from app.demo.studio.arguments import spaced
from app.demo.studio.reading import ToolResult, as_list, as_object

MAX_FACTS = 4
MAX_WORDS = 30
MAX_ROWS = 4
MAX_LABEL = 48
UNEVEN_SHARE = 60
UNITS = {
    "percent": "%",
    "seconds": " s",
    "minutes": " minutes",
    "hours": " hours",
    "pages": " pages",
    "frames": " frames",
    "milliseconds": " ms",
}
SPELT = {"flesch": "Flesch", "kincaid": "Kincaid", "lufs": "LUFS", "dbtp": "dBTP", "lu": "LU", "db": "dB", "bpm": "BPM"}
TELLING = (
    "totalPages",
    "totalScenes",
    "totalWords",
    "totalSpeeches",
    "words",
    "shootingDays",
    "nightUnits",
    "averagePagesPerDay",
    "total",
    "grandTotal",
    "fleschReadingEase",
    "speakingSeconds",
    "runningMinutes",
    "cutsPerMinute",
    "averageShotSeconds",
    "totalGigabytes",
    "terabytesAllCopies",
    "framesPerBeat",
    "averageMissFrames",
    "coveragePercent",
    "totalContradictions",
)
"""Figures that are reported first if a tool returns many."""
TELLING_WHEN_EMPTY = ("silentCharacters", "failing", "overlaps", "errors", "warnings")
READ_ONLY = ("flatStretches", "draftComparison", "colors")
"""Lists whose rows repeat other figures."""
NO_MEASUREMENT = "No tool measured anything for this draft; what stands here is judgment."


def describe_outcomes(outcomes: list[ToolResult], *, explained: bool = True) -> str:
    """Return a paragraph on everything that was measured, with an interpretation if `explained`."""
    most_words = MAX_WORDS // min(max(len(outcomes), 1), 2) + 6
    phrases = [describe_outcome(outcome, most_words, explained=explained) for outcome in outcomes]
    return " ".join(phrases) if phrases else NO_MEASUREMENT


def describe_outcome(outcome: ToolResult, most_words: int, *, explained: bool) -> str:
    """Return the findings of one tool, or the reason why it has no figures."""
    value = as_object(outcome.value)
    failure = value.get("error")
    if failure:
        code = as_object(failure).get("code")
        reason = f" ({code})" if isinstance(code, str) else ""
        return f"`{outcome.name}` could not compute its figures{reason}, so none are given here."
    for wrapper in ("output", "result", "data"):
        if isinstance(value.get(wrapper), dict) and len(value) == 1:
            value = value[wrapper]
    facts = list(kept(facts_in(value), most_words))
    if not facts:
        return f"`{outcome.name}` answered without a figure."
    meaning = list(readings(value))[:3] if explained else []
    return " ".join([f"`{outcome.name}`: {'; '.join(facts)}.", *meaning])


def kept(facts: Iterator[str], most_words: int) -> Iterator[str]:
    """Yield as many facts as fit; a fact that is too long is skipped in favor of shorter ones after it."""
    words, count = 0, 0
    for fact in facts:
        length = len(fact.split())
        if count < MAX_FACTS and (not count or words + length <= most_words):
            words, count = words + length, count + 1
            yield fact


def facts_in(value: dict[str, Any]) -> Iterator[str]:
    """Yield the facts of a result: significant figures, short lists of rows, groups, empty lists, other figures."""
    telling = [name for name in TELLING if name in value]
    yield from figure_phrases(value, telling[:1])
    for name, item in value.items():
        rows = [as_object(row) for row in as_list(item)]
        if name not in READ_ONLY and 0 < len(rows) <= MAX_ROWS and (phrases := rows_fact(spaced(name), rows)):
            yield phrases
    yield from figure_phrases(value, telling[1:4])
    for name, item in value.items():
        inside = [fact for key, entry in as_object(item).items() if (fact := figure(key, entry))]
        if inside:
            label = label_in(as_object(item))
            yield f"{spaced(name)} {f'“{label}”, ' if label else ''}{', '.join(inside[:2])}"
    yield from (f"no {spaced(name)}" for name, item in value.items() if item == [] and name in TELLING_WHEN_EMPTY)
    yield from figure_phrases(value, [*telling[4:], *(name for name in value if name not in telling)])


def figure_phrases(value: dict[str, Any], names: list[str]) -> list[str]:
    """Return the values that are figures, as text."""
    return [fact for name in names if (fact := figure(name, value[name]))]


def figure(name: str, value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a number with its name in words, or an empty text: `totalWords` is "83 words in all"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    words = [SPELT.get(word, word) for word in spaced(name).split()] or ["value"]
    is_year = "year" in words
    shown = (
        f"{value}" if is_year else f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")
    )
    if words[0] == "total" and len(words) > 1:
        return f"{shown} {' '.join(words[1:])} in all"
    if words[-1] in UNITS and len(words) > 1:
        kind = [*words[:-1], "time"] if words[-1] in ("seconds", "minutes", "hours") else words[:-1]
        return f"{' '.join(kind)} {shown}{UNITS[words[-1]]}"
    if words[-1].endswith("s") and not words[-1].endswith("ss") and "per" not in words and len(words) < 3:
        return f"{shown} {' '.join(words) if value != 1 else ' '.join(words).removesuffix('s')}"
    return f"{' '.join(words)} {shown}"


def rows_fact(name: str, rows: list[dict[str, Any]]) -> str:
    """Return a short list: the share of each row if rows have one, otherwise the first figures of each."""
    shares = [
        (key, row[key]) for row in rows for key in row if re.search("[a-z]Percent$", key) and figure(key, row[key])
    ]
    labels = [label_in(row) for row in rows]
    if len(shares) == len(rows) and all(labels):
        by = spaced(shares[0][0]).removesuffix(" percent")
        phrases = [f"{label} {share:g}%" for label, (_, share) in zip(labels, shares, strict=True)]
        return f"{name} by {by}: {', '.join(phrases)}"
    phrases = [fact for row in rows if (fact := row_fact(row))]
    return f"{name}: {', '.join(phrases)}" if phrases else ""


def label_in(row: dict[str, Any]) -> str:
    """Return the label of a row: its first short text, or the texts of its first list."""
    lists = (" and ".join(map(str, item)) for item in row.values() if isinstance(item, list) and item)
    texts = [item for item in row.values() if isinstance(item, str) and 0 < len(item) <= MAX_LABEL]
    return texts[0] if texts else next((text for text in lists if len(text) <= MAX_LABEL), "")


def row_fact(row: dict[str, Any]) -> str:
    """Return a row of a list: its label, and its first two figures or its pages."""
    inside = [fact for name, item in row.items() if (fact := figure(name, item))]
    label = label_in(row)
    if not label and inside:
        label, inside = inside[0], inside[1:]
    if isinstance(row.get("startPage"), int) and isinstance(row.get("endPage"), int):
        inside = [f"pages {row['startPage']} to {row['endPage']}"]
    return f"{label} {' and '.join(inside[:2])}" if inside else ""


def readings(value: dict[str, Any]) -> Iterator[str]:
    """Yield the interpretation of the figures that the model knows."""
    rows = [row for item in value.values() for row in map(as_object, as_list(item))]
    for row in rows:
        late = row.get("pagesLate")
        if row.get("verdict") == "late" and isinstance(late, int):
            yield f"“{row.get('beat')}” stands {late} pages late: take them out of the search, not out of the crisis."
        if row.get("verdict") in ("absent", "planted, never paid off"):
            yield f"“{row.get('name')}” is {row['verdict'].replace(', ', ' and ')} in the scenes as they stand."
    yield from share_reading(rows)
    flat = value.get("flatStretches")
    if isinstance(flat, list):
        stretch = as_object(flat[0]) if flat else {}
        where = f"from “{stretch.get('from')}” to “{stretch.get('to')}”, {stretch.get('pages')} pages long"
        yield f"The curve lies flat {where}." if stretch else "No stretch of the curve lies flat."


def share_reading(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the interpretation of the speakers' shares."""
    speakers = [row for row in rows if "speeches" in row and isinstance(row.get("sharePercent"), int | float)]
    if len(speakers) > 1:
        top = max(speakers, key=lambda row: row["sharePercent"])
        if top["sharePercent"] >= UNEVEN_SHARE:
            yield f"{top.get('name')} talks too much for a person with something to hide."
        else:
            yield "Neither of them can hide behind the other's speeches."

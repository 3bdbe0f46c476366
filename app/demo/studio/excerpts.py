"""Excerpts from a Markdown work for a report: the gist of each section in its own words."""

import re

CODE = re.compile(r"^```\w*\n(?P<text>.*?)\n?^```\s*$", re.M | re.S)
SECTION = re.compile(r"^#{2,4}\s+(?P<heading>.+?)\s*$", re.M)
SENTENCE_END = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"”]))(?<!\b[A-Z]\.)\s+")
BULLET = re.compile(r"^(?:[-*]|\d+\.)\s+(?P<text>.+)$", re.M)
SPEECH = re.compile(r"^[A-Z][A-Z .'\u2019-]*: .+$", re.M)
ASK = re.compile(r"^Ask of (?P<whom>[^:\n]{2,40}): (?P<what>.+)$", re.S)
CLOSING = re.compile(
    r"missing|open\b|question|unclear|undecided|not known|gaps|what changed|could not tell|unresolved"
    r"|needed|confirm|not yet|next steps|to be scouted|waiting|risks|unanswered",
    re.I,
)


def sections_of(text: str) -> list[tuple[str, str]]:
    """Return the sections of a work, heading and body; a heading right above another one is left out."""
    parts = SECTION.split(text)
    pairs = zip(parts[1::2], parts[2::2], strict=False)
    found = [(heading, body.strip()) for heading, body in pairs if body.strip()]
    return found or ([("", text.strip())] if text.strip() else [])


def is_closing(heading: str) -> bool:
    """Return whether a section lists open points instead of findings."""
    return CLOSING.search(heading) is not None


def sentences_of(body: str) -> list[str]:
    """Return the sentences of a section's running text: without its scenes, tables, lists and figures."""
    found: list[str] = []
    for block in CODE.sub("", body).split("\n\n"):
        lines = [line for line in block.splitlines() if not line.lstrip().startswith(("|", "-", "*", "#", ">"))]
        prose = " ".join(" ".join(lines).split())
        if prose and "`" not in prose and not re.match(r"\d+\.\s", prose):
            found += SENTENCE_END.split(prose)
    return found


def bullets_of(body: str) -> list[str]:
    """Return the items of a section's lists."""
    return [" ".join(found["text"].split()).replace("**", "") for found in BULLET.finditer(CODE.sub("", body))]


def table_rows(body: str) -> list[list[str]]:
    """Return the cells of a section's first table, its header first."""
    lines = [line.strip().strip("|") for line in body.splitlines() if line.lstrip().startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [row for row in rows if not all(set(cell) <= set("-: ") for cell in row)]


def limited(text: str, words: int) -> str:
    """Return as many full sentences as fit into `words` words, or the first clauses of the first sentence."""
    taken: list[str] = []
    for sentence in SENTENCE_END.split(" ".join(text.split())):
        if sum(len(item.split()) for item in [*taken, sentence]) > words:
            break
        taken.append(sentence)
    if taken:
        return " ".join(taken)
    beginning = " ".join(text.split()[:words])
    clause = re.match(r".*(?=[;:] )", beginning) or re.match(r".*(?=, )", beginning)
    return f"{clause[0]}." if clause and len(clause[0].split()) > 3 else f"{beginning.rstrip(',;:.')} …"


def gist_of(body: str, words: int) -> str:
    """Return a section in a few of its own words: three table rows, the last lines of a scene, or its beginning."""
    rows = table_rows(body)
    if len(rows) > 1:
        return table_gist(rows)
    speeches = [line.partition(": ") for line in SPEECH.findall(body)]
    if speeches:
        return " ".join(f"{cue}: “{line}”" for cue, _, line in speeches[-2:])
    bullets = [item for item in bullets_of(body) if "`" not in item]
    beginning = " ".join(sentences_of(body)) or (bullets[0] if bullets else "")
    return limited(beginning, words) if beginning else ""


def table_gist(rows: list[list[str]]) -> str:
    """Return three rows of a table in a phrase each; an empty text for a table of figures only."""
    header, *entries = rows
    step = max(1, len(entries) // 3)
    chosen = [row for row in entries[step - 1 :: step][:3] if len(row) > 1]
    if header[0].lower() == "page":
        return f"{', '.join(f'{row[1]} on page {row[0]}' for row in chosen)}."
    if any(row[1].replace(".", "").isdigit() for row in chosen):
        return ""
    return f"{'; '.join(f'{row[0]}: {row[1]}' for row in chosen)}."


def measured_in(text: str, words: int) -> str:
    """Return the facts that a work's first tool measured, as many as fit, quoted from the work."""
    found = re.search(r"`\w+`: [^;\n]+?(?:; [^;\n]+?)*\.(?=\s|$)", text)
    facts = found[0].rstrip(".").split("; ") if found else []
    while len(facts) > 1 and len(" ".join(facts).split()) > words:
        facts.pop()
    return f"{'; '.join(facts)}." if facts else ""


def finding_in(text: str) -> str:
    """Return the conclusion that a work draws from its figures, or an empty text."""
    found = re.search(r"`\w+`: .+", text)
    sentences = [item for item in SENTENCE_END.split(found[0])[1:] if not item.startswith("`")] if found else []
    return sentences[0] if sentences else ""


def asks_in(text: str) -> list[tuple[str, str]]:
    """Return the requests of a work to other crafts: the craft and the request."""
    found = [ASK.match(item) for _, body in sections_of(text) for item in bullets_of(body)]
    return [(ask["whom"], ask["what"]) for ask in found if ask]


def open_points(text: str) -> list[str]:
    """Return the points that a work leaves open, without its requests to others."""
    closing = [body for heading, body in sections_of(text) if is_closing(heading) and heading != "What changed"]
    return [item for body in closing for item in bullets_of(body) if not ASK.match(item)]

"""Refuse phrases that the style page bans, and links to missing files or headings, in Markdown outside code."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
STYLE = Path("docs", "contributing", "style.md")
FENCED = r"^ *(?P<fence>```|~~~).*?^ *(?P=fence)"
CODE = re.compile(rf"{FENCED}|(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s:]+)\)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


def without_code(page: str) -> str:
    """A page whose code is blank, with its line breaks."""
    return CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), page)


def banned_phrases(style: str) -> re.Pattern[str]:
    """The phrases in the first column of the style page's table, which may run over the end of a line."""
    cells = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", style, re.MULTILINE)[2:]
    phrases = (r"\s+".join(phrase.split()) for cell in cells for phrase in cell.split(","))
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b", re.IGNORECASE)


def anchors(page: str) -> set[str]:
    """The names by which links lead to a page's headings."""
    headings = HEADING.findall(re.sub(FENCED, "", page, flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems_of(root: Path, name: Path, banned: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """The problems of a page, each with its position."""
    page = without_code((root / name).read_text())
    for phrase in banned.finditer(page) if name != STYLE else ():
        yield phrase.start(), f"'{' '.join(phrase[0].split())}' is banned, see {STYLE}"
    for link in LINK.finditer(page):
        path, _, anchor = link[1].partition("#")
        target = (root / name).parent / path if path else root / name
        if not target.exists():
            yield link.start(), f"{link[1]} leads to no file"
        elif anchor and anchor not in anchors(target.read_text()):
            yield link.start(), f"{link[1]} leads to no heading"


def check(root: Path) -> list[str]:
    """The problems of a project's pages, each with its file and line."""
    banned, found = banned_phrases((root / STYLE).read_text()), list[str]()
    for path in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("benchmarks/*.md")]):
        page, name = path.read_text(), path.relative_to(root)
        found += [f"{name}:{page.count(chr(10), 0, at) + 1}: {text}" for at, text in problems_of(root, name, banned)]
    return found


if __name__ == "__main__":
    sys.exit("\n".join(check(ROOT)) or None)

"""Refuse phrases that the style page bans, and links to missing files or headings.

In Markdown, everything but code is checked. In Python, comments, strings and test names are checked. Neither
docstrings nor test names may begin with "what" or "who", and functions "return", where a docstring could say "returns".
`CHECKED_CODE` lists the folders, `EXEMPT` the exceptions.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
STYLE = Path("docs", "contributing", "style.md")
FENCED = r"^ *(?P<fence>```|~~~).*?^ *(?P=fence)"
CODE = re.compile(rf"{FENCED}|(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s:]+)\)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)

OPENING = re.compile(r'(?:"""|test )(?P<word>What|Who|Whoever|Whatever)\b', re.IGNORECASE)
NOT_IMPERATIVE = re.compile(r"(Returns|Yields|Raises)\b")
TEXT_TOKENS = (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
CHECKED_CODE = ("app", "benchmarks", "scripts", "tests")
EXEMPT = (
    *("app/demo/studio", "app/services/prompts", "app/services/catalog/seeds"),  # texts for models and demo readers
    "tests/packaging/test_check_style.py",  # quotes banned phrases
)


def without_code(page: str) -> str:
    """Return a page with its code blanked and its line breaks kept."""
    return CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), page)


def banned_phrases(style: str) -> re.Pattern[str]:
    """Return a pattern of the phrases in the first column of the style page's table, which match across line breaks."""
    cells = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", style, re.MULTILINE)[2:]
    phrases = (r"\s+".join(phrase.split()) for cell in cells for phrase in cell.split(","))
    return re.compile(rf"\b(?:{'|'.join(phrases)})\b", re.IGNORECASE)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = HEADING.findall(re.sub(FENCED, "", page, flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems_of(root: Path, name: Path, banned: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the problems of a page, each with its position."""
    page = without_code((root / name).read_text())
    for phrase in banned.finditer(page) if name != STYLE else ():
        yield phrase.start(), f"'{' '.join(phrase[0].split())}' is banned, see {STYLE}"
    for link in LINK.finditer(page):
        path, _, anchor = link[1].partition("#")
        target = (root / name).parent / path if path else root / name
        if not target.exists():
            yield link.start(), f"{link[1]} leads to a missing file"
        elif anchor and anchor not in anchors(target.read_text()):
            yield link.start(), f"{link[1]} leads to a missing heading"


def problems_of_code(source: str, banned: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the problems of a Python module, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if verb := NOT_IMPERATIVE.match(ast.get_docstring(node) or ""):
            yield node.lineno, f"the docstring of '{node.name}' begins with '{verb[0]}', see {STYLE}"
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line, text = token.start[0], token.string
        if token.type == tokenize.NAME and text.startswith("test_"):
            text = text.replace("_", " ")
        elif token.type not in TEXT_TOKENS:
            continue
        if opening := OPENING.match(text):
            subject = "docstring" if token.type == tokenize.STRING else "test name"
            yield line, f"a {subject} begins with '{opening['word']}', see {STYLE}"
        for phrase in banned.finditer(text):
            yield line + text.count("\n", 0, phrase.start()), f"'{' '.join(phrase[0].split())}' is banned, see {STYLE}"


def check_code(root: Path, folders: tuple[str, ...] = CHECKED_CODE) -> list[str]:
    """Return the problems of the Python modules in some folders, each with its file and line."""
    banned, found = banned_phrases((root / STYLE).read_text()), list[str]()
    for path in sorted({path for folder in folders for path in (root / folder).rglob("*.py")}):
        name = path.relative_to(root)
        if not name.as_posix().startswith(EXEMPT):
            found += [f"{name}:{line}: {text}" for line, text in problems_of_code(path.read_text(), banned)]
    return found


def check(root: Path) -> list[str]:
    """Return the problems of a project's pages, each with its file and line."""
    banned, found = banned_phrases((root / STYLE).read_text()), list[str]()
    for path in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("benchmarks/*.md")]):
        page, name = path.read_text(), path.relative_to(root)
        found += [f"{name}:{page.count(chr(10), 0, at) + 1}: {text}" for at, text in problems_of(root, name, banned)]
    return found


if __name__ == "__main__":
    sys.exit("\n".join([*check(ROOT), *check_code(ROOT)]) or None)

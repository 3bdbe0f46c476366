"""The error codes explained: at `/docs/errors/{code}`, where the `type` of each problem leads, and in the docs."""

from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

import yaml
from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app.errors import NotFound

CODES_FILE = Path(__file__).with_name("error_codes.yaml")
PLACES = {
    "http": "HTTP responses",
    "run": "the `error` of an execution",
    "socket": "`error` messages of the event socket",
    "tool": "tool results that models read",
    "command line": "the command line",
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "public, max-age=3600",
}

router = APIRouter(include_in_schema=False)


class ErrorCodeNotFound(NotFound):
    """No error code has this name."""

    code = "error-code-not-found"


@dataclass(frozen=True)
class ErrorCode:
    """One stable code: where it appears (keys of `PLACES`), its meaning and the remedy, in Markdown."""

    code: str
    where: tuple[str, ...]
    meaning: str
    action: str
    status: int | None = None
    """The HTTP status, of codes that have no exception class."""

    @property
    def places(self) -> str:
        """Where the code appears, in words."""
        return ", ".join(PLACES[place] for place in self.where)


@cache
def error_codes() -> dict[str, ErrorCode]:
    """Return every code by its name, in the order of the reference."""
    entries = yaml.safe_load(CODES_FILE.read_text(encoding="utf-8"))
    return {
        code: ErrorCode(code, tuple(entry["where"]), entry["meaning"], entry["action"], entry.get("status"))
        for code, entry in entries.items()
    }


def in_html(markdown: str) -> str:
    """Return a text with code spans as HTML."""
    parts = escape(markdown).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def page(title: str, content: str) -> HTMLResponse:
    """Return a page without scripts and styles."""
    head = f'<meta charset="utf-8"><title>{title} · Dynamic Agents</title>'
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head>{head}</head><body><main><h1>{title}</h1>{content}</main></body></html>',
        headers=PAGE_HEADERS,
    )


@router.get("/docs/errors")
async def list_error_codes() -> HTMLResponse:
    """List the error codes with their meanings."""
    rows = [
        f'<dt><a href="/docs/errors/{one.code}">{one.code}</a></dt><dd>{in_html(one.meaning)}</dd>'
        for one in error_codes().values()
    ]
    return page("Error codes", f"<dl>{''.join(rows)}</dl>")


@router.get("/docs/errors/{code}")
async def get_error_code(code: str) -> HTMLResponse:
    """Explain one error code."""
    found = error_codes().get(code)
    if found is None:
        raise ErrorCodeNotFound("No error code has this name. See /docs/errors.")
    sections = [("Meaning", found.meaning), ("What to do", found.action), ("Appears in", f"{found.places}.")]
    content = "".join(f"<h2>{title}</h2><p>{in_html(text)}</p>" for title, text in sections)
    return page(found.code, f'{content}<p><a href="/docs/errors">All error codes</a></p>')

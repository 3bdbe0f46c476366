"""The console: static files at `/`, which run in a browser and use the public API alone.

The files are read once, when the application is made: no request reads the disk or can name another file.
"""

import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from mimetypes import guess_type
from pathlib import Path, PurePosixPath

from fastapi import APIRouter, Request, Response

from app.routers.docs.api_docs import AssetNotFound

FILES = Path(__file__).parents[1] / "console"
INDEX = "index.html"
PAGES = ("runs", "compare", "start", "inbox", "catalog", "usage", "quality", "operations")
"""The first part of each page's address. The page itself reads the rest."""
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",  # of the same origin, also the event socket
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text becomes markup, except by DOMPurify
        "trusted-types dompurify",
    )
)
PAGE_HEADERS = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
CACHING = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
"""Browsers keep the files, and ask by their `ETag` whether they have changed."""
IMPORT = re.compile(r'^(?:import|export) [^"\n]*"(\.[^"]+)";$|^\} from "(\.[^"]+)";$', re.MULTILINE)
VENDORED = re.compile(r'(?:import|from)"(\.[^"]+)"')
PAGE_MODULE = re.compile(r'path: "([a-z]+)".*import\("\./([^"]+)"\)')
ENTRY = "main.js"
FIRST_PAGE = "runs"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class ConsoleFile:
    """A file as it is sent."""

    content: bytes
    packed: bytes
    """The content, compressed with gzip."""
    media_type: str
    etag: str


@cache
def console_files() -> dict[str, ConsoleFile]:
    """Every file of the console by its path."""
    return {path.relative_to(FILES).as_posix(): read_file(path) for path in sorted(FILES.rglob("*")) if path.is_file()}


def read_file(path: Path) -> ConsoleFile:
    """A file with its compressed form."""
    content = path.read_bytes()
    media_type = guess_type(path.name)[0] or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return ConsoleFile(content, gzip.compress(content, mtime=0), media_type, etag)


@cache
def page_modules() -> dict[str, str]:
    """The module of each page by the first part of the page's address, as the console itself names them."""
    return dict(PAGE_MODULE.findall(console_files()["app.js"].content.decode()))


@cache
def preloads(page: str = "") -> str:
    """The `Link` header that names the modules which a page needs first, so that they load at once."""
    found: dict[str, None] = {}
    left = [*filter(None, [page_modules().get(page)]), ENTRY]
    while left:
        name = left.pop()
        if name not in found:
            found[name] = None
            left.extend(imports_of(name))
    return ", ".join(f"</console/{name}>; rel=modulepreload" for name in found)


def imports_of(name: str) -> Iterator[str]:
    """The modules that a module imports statically."""
    text = console_files()[name].content.decode()
    pattern = VENDORED if name.startswith("vendor/") else IMPORT
    for match in pattern.finditer(text):
        target = match[1] or match[2]
        yield resolved(PurePosixPath(name).parent, target)


def resolved(directory: PurePosixPath, target: str) -> str:
    """The path of a module from the place of the one that imports it."""
    parts = list(directory.parts)
    for part in target.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def answer_file(request: Request, name: str, headers: dict[str, str]) -> Response:
    """A file, compressed if the client takes that; 304 if the client has it.

    Raises:
        AssetNotFound: there is no such file.
    """
    file = console_files().get(name)
    if file is None:
        raise AssetNotFound("The console has no file of this name.")
    headers = {**CACHING, **headers, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.content, headers=headers, media_type=file.media_type)
    return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.media_type)


@router.get("/console/{name:path}")
async def get_console_file(request: Request, name: str) -> Response:
    """A script, a style or an image of the console."""
    return answer_file(request, name, {})


async def get_console(request: Request) -> Response:
    """The page of the console, which reads its address itself."""
    page = request.url.path.split("/")[1] or FIRST_PAGE
    return answer_file(request, INDEX, {**PAGE_HEADERS, "Link": preloads(page)})


for address in ("/", *(f"/{page}" for page in PAGES), *(f"/{page}/{{rest:path}}" for page in PAGES)):
    router.add_api_route(address, get_console, methods=["GET"])

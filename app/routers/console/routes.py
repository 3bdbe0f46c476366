"""The console: static files at `/`, which run in a browser and use the public API alone."""

from fastapi import APIRouter, Request, Response

from app.routers.console.files import HASHED, INDEX, MAP, ConsoleFile, console_files, hashed, map_file
from app.routers.docs.api_docs import AssetNotFound

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
ASKED = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
"""Browsers keep the file, and revalidate it with its `ETag`."""
KEPT = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
"""Browsers keep the file without asking: its address names its content."""

router = APIRouter(include_in_schema=False)


def answer_file(request: Request, file: ConsoleFile, headers: dict[str, str]) -> Response:
    """Return a file, compressed if the client takes that; 304 if the client has it."""
    etag = f'"{file.digest[:32]}"'
    headers = {**headers, "ETag": etag}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.content, headers=headers, media_type=file.media_type)
    return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.media_type)


@router.get("/console/{name:path}")
async def get_console_file(request: Request, name: str) -> Response:
    """A script, a style or an image of the console.

    Raises:
        AssetNotFound: there is no such file.
    """
    plain = HASHED.sub(r"\1\2", name) if HASHED.fullmatch(name) else name
    file = map_file() if plain == MAP else console_files().get(plain)
    if file is None:
        raise AssetNotFound("The console has no file of this name.")
    # During an upgrade, a page of one version may request a file of the other; it gets this version's.
    is_exact = plain != name and hashed(plain, file) == name
    return answer_file(request, file, KEPT if is_exact else ASKED)


async def get_console(request: Request) -> Response:
    """Return the page of the console, which reads its address itself."""
    return answer_file(request, console_files()[INDEX], {**ASKED, **PAGE_HEADERS})


for address in ("/", *(f"/{page}" for page in PAGES), *(f"/{page}/{{rest:path}}" for page in PAGES)):
    router.add_api_route(address, get_console, methods=["GET"])

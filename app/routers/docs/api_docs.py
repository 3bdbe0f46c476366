"""`/docs` and `/redoc`: the API's description as pages, whose scripts are this service's own files.

People type keys into these pages, so they load nothing from other hosts and run no scripts but the service's own.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from app.errors import NotFound

FILES = Path(__file__).parents[2] / "static" / "api_docs"
ASSETS = frozenset(
    {
        *("swagger-ui-bundle.js", "swagger-ui.css", "docs.js"),
        *("redoc.standalone.js", "redoc.js", "redoc.css"),
    }
)
"""The files that the pages load. No other file in the directory is served."""
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # both pages set styles of single elements
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src blob:",  # ReDoc searches in one
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE_HEADERS = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
ASSET_HEADERS = {"Cache-Control": "public, max-age=3600"}

router = APIRouter(include_in_schema=False)


class AssetNotFound(NotFound):
    """The service has no page file of this name."""

    code = "asset-not-found"


class PageFile(FileResponse):
    """A file that is sent to its end even if the client disconnects: the server then discards the rest.

    Starlette would watch for that in a second task, whose cancellation leaves a hundred objects that refer to each
    other to the garbage collector.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        await super().__call__({**scope, "asgi": {**scope["asgi"], "spec_version": "2.4"}}, receive, send)


@router.get("/docs")
async def get_docs() -> FileResponse:
    """Show the API with Swagger UI, which can try it out."""
    return PageFile(FILES / "docs.html", headers=PAGE_HEADERS)


@router.get("/redoc")
async def get_redoc() -> FileResponse:
    """Show the API with ReDoc."""
    return PageFile(FILES / "redoc.html", headers=PAGE_HEADERS)


@router.get("/docs/assets/{name}")
async def get_asset(name: str) -> FileResponse:
    """A script or style of the pages."""
    if name not in ASSETS:
        raise AssetNotFound("The API documentation has no file of this name.")
    return PageFile(FILES / name, headers=ASSET_HEADERS)

"""`/openapi.json`: the description of the API, generated and encoded once, off the event loop."""

import asyncio

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from app.kit.check_thread import in_check_thread

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def get_openapi(request: Request) -> Response:
    """Return the OpenAPI description of the API."""
    return Response(await encoded_description(request.app), media_type="application/json")


async def encoded_description(app: FastAPI) -> bytes:
    """Return the description as JSON.

    Generating it takes about a second, and any client may ask for it: the first request does so in a thread, and
    requests that arrive meanwhile wait for the same result.
    """
    if not hasattr(app.state, "description"):
        app.state.description = asyncio.ensure_future(in_check_thread(lambda: orjson.dumps(app.openapi())))
    return await asyncio.shield(app.state.description)

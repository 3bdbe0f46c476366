"""A client of the service that starts runs over HTTP and follows them over a WebSocket, across reconnects."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from app.cli.event_client import EventClient, FollowingRefused
from app.kit.json_values import JsonObject

UNAUTHORIZED = 401


class RequestRefused(Exception):
    """The service returned an error; the message is the detail of its problem document."""


@dataclass(frozen=True)
class ServiceClient:
    """A client of one service, with its address and API key."""

    url: str
    http: httpx.AsyncClient
    headers: dict[str, str]

    async def start_run(self, kind: str, target: str, body: JsonObject) -> JsonObject:
        """Start a run of an `agent`, a `department` or an `orchestration`, and return the accepted execution."""
        runs = f"/{quote(target, safe='')}/runs" if target else ""
        return await self.post(f"/api/v1/{kind}s{runs}", body)

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """Send a JSON body and return the JSON response.

        Raises:
            RequestRefused: the body cannot be sent as JSON, or the response is a problem.
        """
        try:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            raise RequestRefused("The request contains text or a number that JSON cannot represent.") from None
        return answer_of(await self.http.post(path, content=content, headers={"Content-Type": "application/json"}))

    async def put(self, path: str, body: JsonObject) -> JsonObject:
        """Replace a resource and return it.

        Raises:
            RequestRefused: the response is a problem.
        """
        return answer_of(await self.http.put(path, json=body))

    async def delete(self, path: str) -> None:
        """Delete a resource.

        Raises:
            RequestRefused: the response is a problem.
        """
        response = await self.http.delete(path)
        if not response.is_success:
            answer_of(response)

    async def get(self, path: str) -> JsonObject:
        """Read a resource.

        Raises:
            RequestRefused: the response is a problem.
        """
        return answer_of(await self.http.get(path))

    async def follow(self, execution_id: str) -> AsyncGenerator[JsonObject]:
        """Yield every event of an execution once and in order, then its `execution-end`, reconnecting as needed.

        Raises:
            RequestRefused: the service refuses the subscription, or stays unavailable for too long.
        """
        try:
            async for message in EventClient(self.url, self.headers).follow(execution_id):
                yield message
        except FollowingRefused as error:
            raise RequestRefused(str(error)) from None


@asynccontextmanager
async def service_client(url: str, key: str | None) -> AsyncGenerator[ServiceClient]:
    """Open a client that is closed with the context.

    Raises:
        RequestRefused: the key contains characters that a header cannot carry.
    """
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise RequestRefused("Invalid API key: it contains spaces or characters that are not allowed in keys.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
        yield ServiceClient(url.rstrip("/"), http, headers)


def answer_of(response: httpx.Response) -> JsonObject:
    """Return the JSON of a successful response.

    Raises:
        RequestRefused: the response is an error.
    """
    try:
        body: Any = response.json()
    except ValueError:
        body = {}
    if response.is_success:
        return body
    detail = body.get("detail") if isinstance(body, dict) else None
    advice = " Pass a key with --key or DYNAMIC_AGENTS_KEY." if response.status_code == UNAUTHORIZED else ""
    raise RequestRefused(
        f"{detail or 'The service returned an unexpected response.'}{advice} (HTTP {response.status_code})"
    )

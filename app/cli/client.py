"""A client of the service: starts runs over HTTP and follows them over the WebSocket, resuming where it was cut."""

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
    """The service answered with a problem; the message is its detail."""


@dataclass(frozen=True)
class ServiceClient:
    """One service, by its address, with a key."""

    url: str
    http: httpx.AsyncClient
    headers: dict[str, str]

    async def start_run(self, kind: str, target: str, body: JsonObject) -> JsonObject:
        """Start a run of an `agent` or a `department`, or an `orchestration`; gives the accepted execution."""
        runs = f"/{quote(target, safe='')}/runs" if target else ""
        return await self.post(f"/api/v1/{kind}s{runs}", body)

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """Send a JSON body.

        Raises:
            RequestRefused: the body cannot be sent as JSON, or the answer is a problem.
        """
        try:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            raise RequestRefused("What is to be sent holds a text or a number that JSON does not have.") from None
        return answer_of(await self.http.post(path, content=content, headers={"Content-Type": "application/json"}))

    async def get(self, path: str) -> JsonObject:
        """Read a resource.

        Raises:
            RequestRefused: the answer is a problem.
        """
        return answer_of(await self.http.get(path))

    async def follow(self, execution_id: str) -> AsyncGenerator[JsonObject]:
        """Every event of an execution in order, once, then its `execution-end`; connections may break in between.

        Raises:
            RequestRefused: the service refuses the subscription, or stays away for too long.
        """
        try:
            async for message in EventClient(self.url, self.headers).follow(execution_id):
                yield message
        except FollowingRefused as error:
            raise RequestRefused(str(error)) from None


@asynccontextmanager
async def service_client(url: str, key: str | None) -> AsyncGenerator[ServiceClient]:
    """A client for as long as the context lasts.

    Raises:
        RequestRefused: no header can hold the key.
    """
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise RequestRefused("The key holds characters that no API key has.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
        yield ServiceClient(url.rstrip("/"), http, headers)


def answer_of(response: httpx.Response) -> JsonObject:
    """The JSON of an answer."""
    try:
        body: Any = response.json()
    except ValueError:
        body = {}
    if response.is_success:
        return body
    detail = body.get("detail") if isinstance(body, dict) else None
    advice = " Give a key with --key or DYNAMIC_AGENTS_KEY." if response.status_code == UNAUTHORIZED else ""
    raise RequestRefused(
        f"{detail or 'The service does not answer as expected.'}{advice} (HTTP {response.status_code})"
    )

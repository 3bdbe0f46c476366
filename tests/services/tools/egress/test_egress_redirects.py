"""Redirects of tools' requests: where they may lead, and what goes along."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from app.services.tools.egress.guard import Egress
from tests.fixtures.web_server import WebServer, plain, redirect, web_server
from tests.services.tools.egress.test_egress import code_of, fetch


@pytest.fixture
async def web() -> AsyncGenerator[WebServer]:
    """A server on the loopback, which tools can only fetch if it is listed."""
    async with web_server() as server:
        yield server


async def test_redirects_are_followed_where_they_may_lead(web: WebServer) -> None:
    web.answers |= {"/a": redirect("b?x=1#y"), "/b": redirect(web.url("/c"), b"307 Temporary"), "/c": plain(b"there")}

    answer = await fetch(Egress.to(["127.0.0.1"]), web.url("/a"))

    assert (answer["text"], answer["redirected"], answer["url"]) == ("there", True, web.url("/c"))


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/c",
        "http://[::1]:{port}/c",
        "http://2130706433:{port}/c",
        "//localhost:{port}/c",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "http://127.0.0.1@localhost:{port}/c",
    ],
)
async def test_each_redirect_is_checked_like_a_first_request(web: WebServer, location: str) -> None:
    web.answers |= {"/a": redirect(location.format(port=web.port)), "/c": plain(b"there")}

    assert await code_of(Egress.to(["127.0.0.1"]), web.url("/a")) == "egress-denied"
    assert web.connections == 1


async def test_redirects_come_to_an_end(web: WebServer) -> None:
    web.answers["/round"] = redirect("/round")

    assert await code_of(Egress.to(["127.0.0.1"]), web.url("/round")) == "egress-failed"
    assert web.connections == 6


async def test_a_redirect_is_not_followed_if_the_tool_disallows_it(web: WebServer) -> None:
    web.answers["/a"] = redirect("/b")
    egress = Egress.to(["127.0.0.1"])

    manual = await fetch(egress, web.url("/a"), redirect="manual")

    assert (manual["status"], ["location", "/b"] in manual["headers"]) == (302, True)
    assert await code_of(egress, web.url("/a"), redirect="error") == "egress-failed"


async def test_credentials_and_bodies_do_not_follow_a_redirect_elsewhere(web: WebServer) -> None:
    async with web_server() as other:
        web.answers["/a"] = redirect(other.url("/b"))
        other.answers["/b"] = plain(b"there")
        headers = [["Authorization", "Bearer s"], ["X-Api-Key", "s"], ["Accept", "*/*"], ["Content-Type", "text/plain"]]
        sent: dict[str, Any] = {"method": "POST", "text": "body", "headers": headers}

        await fetch(Egress.to(["127.0.0.1"]), web.url("/a"), **sent)

        assert b"bearer s" in web.requests[0].lower()
        (request,) = other.requests
        assert request.startswith(b"GET /b ")
        assert b"accept: */*" in request.lower()
        assert not any(word in request.lower() for word in (b"bearer", b"x-api-key", b"content-type", b"body"))


@pytest.mark.parametrize("header", ["X-Auth-Token", "Api-Key", "X-Vault-Token", "Authorization", "Ocp-Apim-Key"])
@pytest.mark.parametrize("status", [b"302 Found", b"307 Temporary Redirect"])
async def test_only_harmless_headers_follow_a_redirect_to_another_origin(
    web: WebServer, header: str, status: bytes
) -> None:
    async with web_server() as other:
        web.answers["/a"] = redirect(other.url("/b"), status)
        other.answers["/b"] = plain(b"there")

        headers = [[header, "s3cret"], ["Accept-Language", "de"]]
        answer = await fetch(Egress.to(["127.0.0.1"]), web.url("/a"), headers=headers)

        assert answer["text"] == "there"
        assert b"s3cret" in web.requests[0]
        assert b"accept-language: de" in other.requests[0].lower()
        assert b"s3cret" not in other.requests[0]
        assert header.lower().encode() not in other.requests[0].lower()


async def test_every_header_follows_a_redirect_within_an_origin(web: WebServer) -> None:
    web.answers |= {"/a": redirect("/b"), "/b": plain(b"there")}

    await fetch(Egress.to(["127.0.0.1"]), web.url("/a"), headers=[["X-Auth-Token", "s3cret"]])

    assert b"s3cret" in web.requests[1]

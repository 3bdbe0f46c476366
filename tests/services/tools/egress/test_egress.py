"""Tools can fetch listed hosts at checked addresses, and nothing that leads elsewhere."""

import asyncio
import ipaddress
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import JsonValue

from app.errors import StartupError
from app.services.tools.egress.guard import MAX_RECEIVED_BYTES, Egress
from app.services.tools.egress.hosts import Address, AllowList, is_public
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox
from tests.fixtures.sandboxes import failure_of, running
from tests.fixtures.web_server import WebServer, plain, redirect, web_server

Answer = dict[str, Any]


@pytest.fixture
async def web() -> AsyncGenerator[WebServer]:
    """A server on the loopback, which tools can only fetch if it is listed."""
    async with web_server() as server:
        yield server


async def fetch(egress: Egress, url: str, *, seconds: float = 5, **asked: Any) -> Answer:  # noqa: ANN401 - any field
    """The answer to a worker."""
    request = {"id": 1, "url": url, "method": "GET", "headers": [], "redirect": "follow", **asked}
    until = asyncio.get_running_loop().time() + seconds
    return json.loads(await egress.answer(request, until=until))


async def code_of(egress: Egress, url: str, **asked: Any) -> str:  # noqa: ANN401 - any field
    """The code with which a request is refused."""
    return (await fetch(egress, url, **asked))["error"]["code"]


def resolving_to(*addresses: str, allowed: tuple[str, ...] = ("listed.example",)) -> Egress:
    """An egress to a host that is at these addresses."""

    async def resolve(host: str, port: int) -> list[Address]:
        return [ipaddress.ip_address(address) for address in addresses]

    return Egress(AllowList.of(allowed), resolve)


async def test_a_listed_host_is_fetched_whole(web: WebServer) -> None:
    web.answers["/data"] = plain('{"é": 1}'.encode(), b"Content-Type: application/json", b"X-Odd: \xe9")

    answer = await fetch(Egress.to(["127.0.0.1"]), web.url("/data?q=1#fragment"), headers=[["x-mine", "1"]])

    assert answer == {
        "id": 1,
        "status": 200,
        "statusText": "OK",
        "url": web.url("/data?q=1"),
        "redirected": False,
        "headers": [["content-length", "9"], ["content-type", "application/json"], ["x-odd", "é"]],
        "text": '{"é": 1}',
    }
    (request,) = web.requests
    assert request.startswith(b"GET /data?q=1 HTTP/1.1\r\n")
    assert b"x-mine: 1" in request
    assert f"host: 127.0.0.1:{web.port}".encode() in request
    assert not {b"cookie", b"proxy", b"forwarded"} & {line.split(b":")[0] for line in request.lower().split(b"\r\n")}


async def test_a_body_is_sent_and_bytes_come_back_as_they_are(web: WebServer) -> None:
    web.answers["/bytes"] = plain(b"\xff\xfe\x00")

    answer = await fetch(Egress.to(["localhost"]), web.url("/bytes", "localhost"), method="POST", text="é")

    assert (answer["base64"], "text" in answer) == ("//4A", False)
    assert web.requests[0].endswith(b"\r\n\r\n" + "é".encode())


@pytest.mark.parametrize("allowed", [(), ("other.example",), ("127.0.0.1:1",), ("127.0.0.2",)])
async def test_an_unlisted_host_is_denied_before_anything_is_sent(web: WebServer, allowed: tuple[str, ...]) -> None:
    assert await code_of(Egress.to(allowed), web.url("/")) == "egress-denied"
    assert web.connections == 0


SPELLINGS = [
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.0.01:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127。0。0。1:{port}/",
    "http://①②⑦.0.0.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://listed.example@127.0.0.1:{port}/",
    "http://listed.example:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@listed.example/",
    "http://127.0.0.1:{port}#@listed.example/",
    "http:\\\\127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http://listed.example\t@127.0.0.1:{port}/",
    "http://listed.example\r\nHost: 127.0.0.1/",
    "//127.0.0.1:{port}/",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "data:text/plain,x",
    "javascript:1",
    "http://:{port}/",
    "http://listed.example:99999/",
    "http://[::1/",
    "",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_an_address_gets_around_the_list(web: WebServer, spelling: str) -> None:
    egress = resolving_to("127.0.0.1")

    assert await code_of(egress, spelling.format(port=web.port)) == "egress-denied"
    assert web.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("168.63.129.16", "192.0.0.192", "192.88.99.1", "100.100.100.200", "3fff::1", "::ffff:168.63.129.16"),
        *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "100::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::",
            "2001::1",
        ),
    ],
)
async def test_a_listed_name_opens_no_address_of_this_machine_or_its_networks(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert await code_of(resolving_to(address), "http://listed.example/") == "egress-denied"


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_open_to_listed_names(address: str) -> None:
    assert AllowList.of(["listed.example"]).permits(ipaddress.ip_address(address), "listed.example", 443)


async def test_one_forbidden_address_among_others_refuses_the_host() -> None:
    assert await code_of(resolving_to("8.8.8.8", "127.0.0.1"), "http://listed.example/") == "egress-denied"


async def test_an_address_that_is_listed_itself_is_open_to_a_listed_name(web: WebServer) -> None:
    web.answers["/"] = plain(b"inside")
    egress = resolving_to("127.0.0.1", allowed=("listed.example", f"127.0.0.1:{web.port}"))

    assert (await fetch(egress, web.url("/", "listed.example")))["text"] == "inside"
    assert f"host: listed.example:{web.port}".encode() in web.requests[0]


async def test_a_name_that_means_something_else_a_moment_later_gains_nothing(web: WebServer) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[Address]:
        asked.append(host)
        return [ipaddress.ip_address("192.0.2.1" if len(asked) == 1 else "127.0.0.1")]

    egress = Egress(AllowList.of(["listed.example", "192.0.2.1"]), rebinding)

    first = await fetch(egress, web.url("/", "listed.example"), seconds=0.3)
    second = await code_of(egress, web.url("/", "listed.example"))

    assert first["error"]["code"] == "egress-failed", "the address that was checked was tried, and no other"
    assert second == "egress-denied"
    assert (asked, web.connections) == (["listed.example"] * 2, 0)


async def test_an_answer_without_an_end_is_cut(web: WebServer) -> None:
    web.answers["/endless"] = b"HTTP/1.1 200 OK\r\n\r\n"
    web.endless.add("/endless")

    answer = await fetch(Egress.to(["127.0.0.1"]), web.url("/endless"))

    assert answer["error"] == {"code": "egress-failed", "message": f"The answer exceeds {MAX_RECEIVED_BYTES} bytes."}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        plain(b"\x1f\x8b", b"Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_a_server_that_answers_badly_fails_the_request(web: WebServer, answer: bytes) -> None:
    web.answers["/bad"] = answer

    assert await code_of(Egress.to(["127.0.0.1"]), web.url("/bad")) == "egress-failed"


async def test_a_server_that_never_answers_is_given_up_in_time(web: WebServer) -> None:
    web.answers["/silent"] = b""
    web.silent.add("/silent")

    answer = await fetch(Egress.to(["127.0.0.1"]), web.url("/silent"), seconds=0.2)

    assert answer["error"]["message"] == "The server did not answer in time."


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "CONNECT"},
        {"method": "TRACE"},
        {"headers": [["Host", "other.example"]]},
        {"headers": [["Transfer-Encoding", "chunked"]]},
        {"headers": [["Cookie", "a=b"]]},
        {"headers": [["X-Forwarded-For", "127.0.0.1"]]},
        {"headers": [["Proxy-Authorization", "x"]]},
        {"headers": [["A", "x\r\nHost: other.example"]]},
        {"headers": [["A: b\r\nC", "d"]]},
        {"headers": [["A", "x"]] * 51},
        {"headers": [["A", "x" * 20_000]]},
        {"text": "x" * 300_000},
    ],
)
async def test_requests_that_impersonate_the_service_or_exceed_limits_are_denied(
    web: WebServer, asked: dict[str, Any]
) -> None:
    assert await code_of(Egress.to(["127.0.0.1"]), web.url("/"), **asked) == "egress-denied"
    assert web.connections == 0


@pytest.mark.parametrize(
    "asked", [{"headers": 1}, {"headers": [["a"]]}, {"base64": "*"}, {"redirect": None, "headers": None}]
)
async def test_an_invalid_request_of_a_worker_is_an_error_and_no_crash(asked: dict[str, Any]) -> None:
    url = "http://unknown.invalid/"

    assert await code_of(resolving_to("8.8.8.8"), url, **asked) == "egress-failed"


async def test_an_unknown_host_is_reported_as_such() -> None:
    answer = await fetch(Egress.to(["unknown.invalid"]), "http://unknown.invalid/")

    assert answer["error"] == {"code": "egress-failed", "message": "The host 'unknown.invalid' is unknown."}


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_proxies_of_the_environment_are_not_used(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv(proxy, "http://127.0.0.1:9/")
    web.answers["/"] = plain(b"direct")

    assert (await fetch(Egress.to(["127.0.0.1"]), web.url("/")))["text"] == "direct"


@pytest.mark.parametrize(
    "entry", ["http://a.example", "a.example/path", "user@a.example", "0x7f.1", "127.1", "*.a.example", "a b"]
)
def test_an_entry_that_is_no_host_stops_the_start(entry: str) -> None:
    with pytest.raises(StartupError, match="TOOL_EGRESS_ALLOWLIST is invalid"):
        AllowList.of([entry])


def test_entries_are_hosts_with_or_without_a_port() -> None:
    allowed = AllowList.of(["API.Example.com", "a.example:8443", "10.0.0.5", "::1", "[::1]:80"])

    assert allowed.entries == {
        *(("api.example.com", None), ("a.example", 8443), ("10.0.0.5", None), ("::1", None), ("::1", 80)),
    }


FETCHING = """async ({ url, init }, { fetch }) => {
  const response = await fetch(url, init);
  const { ok, status, redirected } = response;
  return { ok, status, redirected, type: response.headers.get("Content-Type"), data: await response.json() };
}"""


@pytest.mark.slow
async def test_a_tool_fetches_as_in_a_browser_and_receives_denials(web: WebServer) -> None:
    web.answers["/data"] = plain(b'{"n": [1, 2]}', b"Content-Type: application/json")
    web.answers["/away"] = redirect(web.url("/data", "localhost"))
    async with running(ToolSandbox(timeout_seconds=5, memory_mb=64, workers=1, egress=Egress.to(["127.0.0.1"]))) as box:
        given = await box.run(ToolInvocation(FETCHING, {"url": web.url("/data")}, {}))
        sent: JsonValue = {"method": "post", "body": '{"a":1}', "headers": {"Content-Type": "application/json"}}
        await box.run(ToolInvocation(FETCHING, {"url": web.url("/data"), "init": sent}, {}))
        denied = await failure_of(box, FETCHING, {"url": web.url("/away")})
        many = "async (u, { fetch }) => (await Promise.all(Array.from({ length: 20 }, () => fetch(u)))).length"
        at_once = await box.run(ToolInvocation(many, web.url("/data"), {}))
        flood = "async (u, { fetch }) => { for (let i = 0; i < 60; i++) await fetch(u) }"
        flooding = await failure_of(box, flood, web.url("/data"))
        left = "(u, { fetch }) => { fetch(u); return new Promise(done => setTimeout(done, 1, 'left')) }"
        leaving = [await box.run(ToolInvocation(left, web.url("/data"), {})) for _ in range(5)]
        after = await box.run(ToolInvocation(FETCHING, {"url": web.url("/data")}, {}))

    expected = {"ok": True, "status": 200, "redirected": False, "type": "application/json", "data": {"n": [1, 2]}}
    assert given.output == after.output == expected
    assert b"POST /data" in web.requests[1]
    assert web.requests[1].endswith(b'{"a":1}')
    assert denied.code == "egress-denied"
    assert at_once.output == 20
    assert (flooding.code, "at most 50" in flooding.message) == ("egress-failed", True)
    assert [outcome.output for outcome in leaving] == ["left"] * 5


@pytest.mark.slow
async def test_a_tool_that_does_not_name_fetch_has_none(web: WebServer) -> None:
    code = "async (url, context) => await context['fet' + 'ch'](url)"
    async with running(ToolSandbox(timeout_seconds=5, memory_mb=64, workers=1, egress=Egress.to(["127.0.0.1"]))) as box:
        failure = await failure_of(box, code, web.url("/"))

    assert failure.code == "egress-denied"
    assert web.connections == 0

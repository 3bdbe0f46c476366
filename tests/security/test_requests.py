"""Requests beyond the limits: refused, held back or cut, while other clients are answered."""

import asyncio
import contextlib
import json
import re
from pathlib import Path

import pytest

from tests.fixtures.attack_bounds import AttackService, log_of, port_of
from tests.fixtures.processes import ServeProcess
from tests.fixtures.services import ADMIN_KEY
from tests.fixtures.waiting import wait_until
from tests.security.attacks.requests import HEALTH

HANDSHAKE = (
    b"GET /api/agent-events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
MANY_HEADERS = b"".join(b"X-%d: x\r\n" % number for number in range(200))


async def ask(process: ServeProcess, *pieces: bytes, seconds: float = 10) -> bytes:
    """Everything that is answered to some bytes until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(process))
    try:
        for piece in pieces:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        async with asyncio.timeout(seconds):
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(65536):
                    answer += part
            return answer
    finally:
        writer.transport.abort()


def problem_in(answer: bytes) -> tuple[int, str]:
    """The status and the code of a problem, which has an id as every answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.search(rb"(?i)\r\nx-request-id: req_[0-9a-f]+", head), head
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two Hosts"),
        pytest.param(b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two Hosts in HTTP/1.0"),
        pytest.param(b"nonsense\r\n\r\n", 400, id="no HTTP"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + MANY_HEADERS + b"\r\n", 431, id="200 headers"),
        pytest.param(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 431, id="a long path"),
        pytest.param(HANDSHAKE + MANY_HEADERS + b"\r\n", 400, id="a handshake with 200 headers"),
        pytest.param(HANDSHAKE + b"X: " + b"x" * 9000 + b"\r\n\r\n", 400, id="a handshake with a long header"),
        pytest.param(HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", 400, id="a handshake with a body"),
        pytest.param(HANDSHAKE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="a chunked handshake"),
        pytest.param(HANDSHAKE.replace(b"GET", b"POST") + b"\r\n", 400, id="a handshake by POST"),
        pytest.param(HANDSHAKE.replace(b"agent", b"\xc3\xa4gent") + b"\r\n", 400, id="a handshake to a raw path"),
    ],
)
async def test_a_bad_head_is_refused_as_a_problem(attacked: ServeProcess, request_bytes: bytes, status: int) -> None:
    assert problem_in(await ask(attacked, request_bytes))[0] == status


async def test_a_handshake_with_a_wrong_version_is_answered(attacked: ServeProcess) -> None:
    answer = await ask(attacked, HANDSHAKE.replace(b"Version: 13", b"Version: 8") + b"\r\n")

    assert answer.split()[1] in (b"400", b"426")


async def test_one_header_of_32_mib_is_refused_long_before_its_end(attacked: ServeProcess) -> None:
    pieces = [b"x" * 65536] * 512

    answer = await ask(attacked, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", *pieces)

    assert not answer or problem_in(answer) == (431, "request-header-fields-too-large")


async def test_requests_before_a_malformed_one_are_answered_first(attacked: ServeProcess) -> None:
    answer = await ask(attacked, HEALTH * 3 + b"nonsense\r\n\r\n")

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200"] * 3 + [b"400"]


@pytest.mark.slow
async def test_thousands_of_requests_at_once_are_all_answered_in_order(attacked: ServeProcess) -> None:
    last = HEALTH.replace(b"/healthz", b"/nowhere").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    answer = await ask(attacked, HEALTH * 2000 + last, seconds=60)

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200"] * 2000 + [b"404"]


async def test_bodies_of_requests_at_once_stay_apart(attacked: ServeProcess) -> None:
    chunked = (
        b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n"
    )
    sized = b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n"

    answer = await ask(attacked, (chunked + sized + HEALTH) * 5 + b"GET /nowhere HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"404", b"404", b"200"] * 5 + [b"404"]


@pytest.mark.parametrize(
    ("size", "count", "status"), [(1, 4000, b"422"), (1, 5000, b"400"), (16, 20_000, b"422")], ids=str
)
async def test_a_body_may_have_few_tiny_chunks(attacked: ServeProcess, size: int, count: int, status: bytes) -> None:
    chunk = b"%x\r\n%b\r\n" % (size, b"1" * size)
    head = b"POST /api/v1/agents/any/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: %b\r\n" % ADMIN_KEY.encode()
    head += b"Content-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = await ask(attacked, head + chunk * count + b"0\r\n\r\n")

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [status]


@pytest.mark.parametrize("length", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_its_client_cuts_is_a_plain_log_line(attacked: ServeProcess, length: bytes) -> None:
    path = b"/api/v1/departments/cut-%d/runs" % len(length)
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(attacked))
    writer.write(b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: %b\r\n" % (path, ADMIN_KEY.encode()))
    writer.write(b"Content-Type: application/json\r\n%b\r\n\r\n3\r\n{" % length)
    await writer.drain()
    writer.close()
    await wait_until(lambda: path.decode() in log_of(attacked), 10)

    lines = [json.loads(line) for line in log_of(attacked).splitlines() if path.decode() in line]
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]
    assert "Traceback" not in log_of(attacked)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("piles of pipelined requests", "an endless header", "silent connections"),
        *("connections without a pause", "pings whose pongs are not read"),
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in (
                *("piles of pipelined requests, answers read", "heads full of line ends"),
                *("bodies in chunks of one byte", "event streams that are not read"),
            )
        ),
    ],
)
async def test_an_attack_is_not_noticed_by_others(name: str, attack_service: AttackService) -> None:
    await attack_service(name)


def test_the_limit_on_open_files_is_raised_at_the_start(attacked: ServeProcess) -> None:
    limits = Path(f"/proc/{attacked.process.pid}/limits").read_text()

    soft, hard = re.search(r"Max open files\s+(\S+)\s+(\S+)", limits).groups()  # type: ignore[union-attr]
    assert soft == hard


@pytest.mark.long
@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"\r\n"])
async def test_a_head_that_does_not_come_closes_the_connection(attacked: ServeProcess, sent: bytes) -> None:
    answer = await ask(attacked, sent, seconds=13)

    assert answer == b"" if not sent else problem_in(answer) == (408, "request-timeout")


@pytest.mark.long
async def test_a_body_that_does_not_come_closes_the_connection(attacked: ServeProcess) -> None:
    head = b"POST /api/v1/departments/x/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"

    answer = await ask(
        attacked, head + b"Content-Type: application/json\r\nX-API-Key: %b\r\n\r\n{" % ADMIN_KEY.encode(), seconds=65
    )

    assert problem_in(answer) == (408, "request-timeout")


@pytest.mark.long
async def test_a_stream_that_is_not_read_is_cut_after_half_a_minute(attack_service: AttackService) -> None:
    outcome = await attack_service("event streams that are not read", 40)

    assert set(outcome.endings) == {"cut"}

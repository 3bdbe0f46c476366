"""A closed connection leaves nothing to the garbage collector, which would stop the event loop to find it."""

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
import uvloop
from pydantic import SecretStr

from app.dependencies import Services
from app.main import create_app
from app.routers.http import server_sent_events
from app.server.edge import http, websocket
from app.server.edge.limits import Edge, EdgeLimits
from app.server.edge.request_turns import RequestTurns
from app.server.server import server_options
from app.settings import Settings
from tests.fixtures.blocking_peers import MASK, Peer, close_frame, connected, request, text_frame
from tests.fixtures.model_server import serve_app, stop_server
from tests.fixtures.services import ADMIN_KEY

CONNECTIONS = 40
CLIENTS = 15
OBJECTS_PER_CONNECTION = 1
"""How many may be left. They were 26 of a silent connection, 40 of a request, 110 of a socket or a cut stream."""
OBJECTS_OF_AN_OPERATION = 240
"""How many one operation of the driver leaves that is cancelled in the middle, when the last stream of a run ends."""
FOLLOWING = ("stream_that_is_left", "stream_behind_which_more_is_asked", "socket_that_follows_and_is_cut")
"""The kinds of peers that follow a run."""
COMMON = frozenset(
    {
        *("silent", "kept_alive", "last_request", "cut_in_the_head", "cut_in_the_body", "refused_by_the_parser"),
        *("pipelined_and_cut", "unread", "without_credentials", "answered", "socket_closed_by_the_client"),
        *FOLLOWING,
    }
)
"""The kinds of every test run; the long tests try the others too."""
QUIET_SECONDS = 10.0
SHORT_SECONDS = 0.2
JSON = b"Content-Type: application/json\r\n"
HEALTH = request(b"GET", b"/healthz")
LAST = request(b"GET", b"/healthz", b"Connection: close\r\n")
ASSET = b"/docs/assets/redoc.standalone.js"
EXECUTION = b"exec_foreign"
STREAM = b"/api/v1/executions/%b/events/stream" % EXECUTION
RUNS = b"/api/v1/agents/none/runs"


@dataclass(frozen=True)
class Listener:
    """A running service: its port, and whether connections or requests are left."""

    port: int
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    def is_quiet(self) -> bool:
        """Whether all connections are closed and all requests have ended."""
        return not self.server.server_state.connections and not self.server.server_state.tasks


async def listen(settings: Settings, started: Future[Listener]) -> None:
    """Serve with short deadlines until the tests are over."""
    app = create_app(settings)
    edge = Edge(EdgeLimits(head_seconds=SHORT_SECONDS, body_seconds=SHORT_SECONDS))
    options = {**server_options(settings), "http": http.http_protocol(edge), "timeout_keep_alive": SHORT_SECONDS}
    server, task, url = await serve_app(RequestTurns(app), **options)
    services: Services = app.state.services
    row = {"event": {"type": "x"}}
    await services.database["agent-executions"].insert_one(
        {"executionId": EXECUTION.decode(), "status": "running", "prompt": "x", "events": [row]}
    )
    stop = asyncio.Event()
    started.set_result(Listener(int(url.rpartition(":")[2]), server, asyncio.get_running_loop(), stop))
    await stop.wait()
    await stop_server(server, task)


@pytest.fixture(scope="module")
def listener(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Listener]:
    """A service in a thread, on the event loop of the product; the tests are its clients."""
    given: dict[str, Any] = {
        "mongodb_uri": SecretStr(mongod_uri.replace("/?", "/test_closed_connections?")),
        "data_dir": tmp_path_factory.mktemp("data"),
        "admin_api_key": SecretStr(ADMIN_KEY),
        "seed_on_start": False,
    }
    settings = Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    started: Future[Listener] = Future()
    thread = threading.Thread(target=lambda: uvloop.run(listen(settings, started)))
    thread.start()
    running = started.result(60)
    yield running
    running.loop.call_soon_threadsafe(running.stop.set)
    thread.join()


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused peers have little time to read the reason."""
    for module in (http, websocket):
        monkeypatch.setattr(module, "LINGER_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(server_sent_events, "HEARTBEAT_SECONDS", SHORT_SECONDS)


Kind = Callable[[Peer], object]
KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    """Register a kind of peer."""
    KINDS[function.__name__] = function
    return function


@kind
def silent(_: Peer) -> None:
    """Close without a request."""


@kind
def kept_alive(peer: Peer) -> None:
    """Send two requests, one after the other, and close."""
    for _ in range(2):
        peer.send(HEALTH)
        assert b"200 OK" in peer.read_answer()


@kind
def kept_alive_for_too_long(peer: Peer) -> None:
    """Send a request, and wait until the service closes the connection."""
    peer.send(HEALTH)
    peer.read_all()


@kind
def last_request(peer: Peer) -> None:
    """Let the service close after its answer."""
    peer.send(LAST)
    assert b"200 OK" in peer.read_all()


@kind
def cut_in_the_head(peer: Peer) -> None:
    """Cut the connection in the head."""
    peer.send(HEALTH[:20])
    peer.reset()


@kind
def cut_in_the_body(peer: Peer) -> None:
    """Close in the body."""
    peer.send(request(b"POST", RUNS, JSON, b"Content-Length: 9\r\n"), b"{")


@kind
def cut_in_a_chunk(peer: Peer) -> None:
    """Cut the connection in a chunk that the application waits for."""
    peer.ask(b"GET", b"/healthz")
    peer.send(request(b"POST", RUNS, JSON, b"Transfer-Encoding: chunked\r\n"), b"9\r\n{")
    time.sleep(0.005)
    peer.reset()


@kind
def refused_by_a_callback(peer: Peer) -> None:
    """Send a head without Host."""
    peer.send(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert b" 400 " in peer.read_all()


@kind
def refused_by_the_parser(peer: Peer) -> None:
    """Send nonsense."""
    peer.send(b"nonsense\r\n\r\n")
    assert b" 400 " in peer.read_all()


@kind
def refused_by_size(peer: Peer) -> None:
    """Send a head that is too large."""
    peer.send(b"GET /", b"x" * 70_000)
    peer.read_all()


@kind
def pipelined(peer: Peer) -> None:
    """Send several requests at once, and read all answers."""
    peer.send(HEALTH * 20, LAST)
    assert peer.read_all().count(b"200 OK") == 21


@kind
def pipelined_and_cut(peer: Peer) -> None:
    """Send more requests than are read at once, and cut the connection."""
    peer.send(HEALTH * 40)
    peer.reset()


@kind
def timed_out_in_the_head(peer: Peer) -> None:
    """Send half a head, and wait."""
    peer.send(HEALTH[:30])
    assert b" 408 " in peer.read_all()


@kind
def timed_out_in_the_body(peer: Peer) -> None:
    """Send half a body, and wait."""
    peer.send(request(b"POST", RUNS, JSON, b"Content-Length: 9\r\n"), b"{")
    peer.read_all()


@kind
def unread(peer: Peer) -> None:
    """Ask for a large file, read the beginning, and vanish."""
    peer.ask(b"GET", ASSET)
    peer.reset()


@kind
def stream_that_is_left(peer: Peer) -> None:
    """Follow an execution for a moment."""
    assert b"200 OK" in peer.ask(b"GET", STREAM)
    peer.read_until(b"data: ")


@kind
def stream_behind_which_more_is_asked(peer: Peer) -> None:
    """Follow an execution, send one more request, and leave."""
    assert b"200 OK" in peer.ask(b"GET", STREAM)
    peer.read_until(b"data: ")
    peer.send(HEALTH)


@kind
def without_credentials(peer: Peer) -> None:
    """Ask with a wrong key, which is refused, and soon not even looked up."""
    peer.send(request(b"GET", b"/api/v1/agents", b"X-API-Key: wrong\r\n"))
    answer = peer.read_answer()
    assert b" 401 " in answer or b" 429 " in answer


@kind
def answered(peer: Peer) -> None:
    """Send requests that are answered with success."""
    assert b" 200 " in peer.ask(b"GET", b"/api/v1/agents")
    assert b" 201 " in peer.ask(b"POST", b"/api/v1/executions/%b/stream-ticket" % EXECUTION)


@kind
def answered_with_problems(peer: Peer) -> None:
    """Send requests that the application refuses."""
    assert b" 404 " in peer.ask(b"GET", b"/nowhere")
    assert b" 404 " in peer.ask(b"POST", RUNS, JSON, body=b'{"prompt":"x","project":"66f0a1b2c3d4e5f601234567"}')
    assert b" 405 " in peer.ask(b"DELETE", b"/api/v1/agents")
    assert b" 422 " in peer.ask(b"GET", b"/api/v1/agents?x=1")
    assert b" 422 " in peer.ask(b"POST", RUNS, JSON, body=b'{"prompt":1}')
    assert b" 400 " in peer.ask(b"POST", RUNS, JSON, body=b"{")
    assert b" 415 " in peer.ask(b"POST", RUNS, body=b"{}")


@kind
def body_too_large(peer: Peer) -> None:
    """Announce a body that is too large."""
    peer.send(request(b"POST", RUNS, JSON, b"X-API-Key: %b\r\nContent-Length: 9999999\r\n" % ADMIN_KEY.encode()))
    assert b" 413 " in peer.read_answer()


@kind
def socket_closed_by_the_client(peer: Peer) -> None:
    """Open the event socket, send a message, and close it in order."""
    assert b" 101 " in peer.shake_hands(b"X-API-Key: %b\r\n" % ADMIN_KEY.encode())
    peer.send(text_frame(b'{"type":"ping"}'))
    assert b"pong" in peer.read()
    peer.send(close_frame())
    peer.read_all()


@kind
def socket_that_follows_and_is_cut(peer: Peer) -> None:
    """Follow an execution on the event socket, and cut the connection."""
    assert b" 101 " in peer.shake_hands(b"X-API-Key: %b\r\n" % ADMIN_KEY.encode())
    peer.send(text_frame(b'{"type":"subscribe","executionId":"%b"}' % EXECUTION))
    peer.read_until(b'"seq":1')
    peer.reset()


@kind
def socket_refused_by_the_application(peer: Peer) -> None:
    """Open the event socket with a wrong key."""
    assert b" 101 " in peer.shake_hands()
    peer.send(text_frame(b'{"type":"auth","token":"wrong"}'))
    peer.read()
    peer.send(close_frame())
    peer.read_all()


@kind
def socket_closed_for_an_invalid_frame(peer: Peer) -> None:
    """Violate the protocol."""
    peer.shake_hands()
    peer.send(b"\xff\xff")
    peer.read_all()


@kind
def socket_closed_for_too_many_frames(peer: Peer) -> None:
    """Send too many frames."""
    peer.shake_hands()
    peer.send((b"\x89\x80" + MASK) * 600)
    peer.read_all()


@kind
def socket_of_a_wrong_version(peer: Peer) -> None:
    """Ask for a socket of another version."""
    peer.shake_hands(version=b"8")
    peer.read_all()


@kind
def socket_to_nowhere(peer: Peer) -> None:
    """Ask for a socket that does not exist."""
    peer.send(request(b"GET", b"/nowhere", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"))
    peer.read_all()


def connect(listener: Listener, peers: Kind, count: int) -> None:
    """Let a number of peers come and go, several at a time, until all is quiet."""

    def be_one() -> None:
        with connected(listener.port) as peer:
            peers(peer)

    with ThreadPoolExecutor(CLIENTS) as pool:
        try:
            for finished in as_completed([pool.submit(be_one) for _ in range(count)]):
                finished.result()
        finally:
            pool.shutdown(cancel_futures=True)
    until = time.monotonic() + QUIET_SECONDS
    while not listener.is_quiet():
        assert time.monotonic() < until, "connections or requests are left"
        time.sleep(0.01)
    time.sleep(0.05)


def described(found: object) -> str:
    """The type and the name of an object."""
    name = getattr(found, "__qualname__", None) or getattr(getattr(found, "f_code", None), "co_qualname", "")
    return f"{type(found).__module__}.{type(found).__qualname__} {name}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in COMMON else pytest.mark.long) for name in KINDS]
)
def test_a_closed_connection_leaves_no_garbage(name: str, listener: Listener) -> None:
    connect(listener, KINDS[name], 2 * CLIENTS)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        connect(listener, KINDS[name], CONNECTIONS)
        gc.collect()
        left = Counter(map(described, gc.garbage))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    most = OBJECTS_PER_CONNECTION * CONNECTIONS + (OBJECTS_OF_AN_OPERATION if name in FOLLOWING else 0)
    assert left.total() < most, "\n".join(map(str, left.most_common(50)))

"""The WebSocket at `/api/agent-events`: subscribe to executions, receive their events gapless and in order."""

import asyncio
import contextlib
from http import HTTPStatus

import structlog
from fastapi import APIRouter, WebSocket
from pymongo.errors import PyMongoError
from starlette.websockets import WebSocketDisconnect

from app.dependencies import AuthenticatorDep, CredentialsDep, HubDep, SettingsDep, StreamsDep, address_of, stream_key
from app.errors import AppError, InvalidInput
from app.events.replay import ExecutionNotFound
from app.events.stream.broadcaster import Subscription
from app.events.stream.delta_pacer import DeltaPacer
from app.events.stream.encoding import Batch
from app.events.stream.hub import EventHub
from app.events.types import AgentDelta
from app.models.api_key import Role
from app.routers.http.problems import render_app_error
from app.routers.sockets.messages import (
    AnyMessage,
    Auth,
    ErrorMessage,
    Ping,
    Pong,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    execution_id_in,
    parse_message,
)
from app.routers.sockets.sinks import LAST_WORDS_SECONDS, SocketSink, sink_for
from app.services.access.api_keys import Caller
from app.services.access.authenticator import Authenticator, NotAllowed, NotAuthenticated, key_in, require
from app.services.access.credential_watch import CredentialWatch
from app.services.access.published_keys import TokenKeysUnavailable
from app.services.usage.open_streams import TooManyStreams
from app.services.usage.rate_limits import TooManyRequests
from app.telemetry.metrics import SUBSCRIBERS

AUTH_SECONDS = 5.0
MAX_SUBSCRIPTIONS = 100
CLOSE_INTERNAL_ERROR = 1011
CLOSE_TRY_AGAIN_LATER = 1013
CLOSE_UNAUTHENTICATED = 4401
CLOSE_NOT_ALLOWED = 4403
CLOSE_NO_AUTH_IN_TIME = 4408
CLOSE_TOO_SLOW = 4409
MAX_REASON_BYTES = 123
SLOW_LAST_WORDS_SECONDS = 60.0
"""How long a client that is too slow has to read the pending frames and the position to resume from."""

router = APIRouter()
log = structlog.get_logger(__name__)


class OriginNotAllowed(AppError):
    """A page of another origin tries to open the socket."""

    code = "origin-not-allowed"
    status = HTTPStatus.FORBIDDEN

    def __init__(self) -> None:
        super().__init__("Pages of this origin may not open the socket; ALLOWED_ORIGINS lists those that may.")


class TooManySubscriptions(InvalidInput):
    """The socket already follows the maximum number of executions."""

    code = "too-many-subscriptions"


@router.websocket("/api/agent-events")
async def agent_events(
    websocket: WebSocket,
    settings: SettingsDep,
    streams: StreamsDep,
    authenticator: AuthenticatorDep,
    credentials: CredentialsDep,
    hub: HubDep,
) -> None:
    """Serve one socket until either side closes it."""
    if not origin_allowed(websocket, settings.allowed_origins):
        await websocket.send_denial_response(await render_app_error(websocket, OriginNotAllowed()))
        return
    await websocket.accept()
    session = SocketSession(websocket, authenticator, credentials, hub)
    try:
        if caller := await session.authenticate():
            with streams.one(stream_key(caller, websocket)), SUBSCRIBERS.labels("websocket").track_inprogress():
                await session.serve()
    except TooManyStreams as error:
        await websocket.close(CLOSE_TRY_AGAIN_LATER, error.message)
    except WebSocketDisconnect:
        return
    except Exception:
        log.exception("socket-crashed")
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has closed already
            await websocket.close(
                CLOSE_INTERNAL_ERROR, "The service failed to handle a message; its log has the reason."
            )


def origin_allowed(websocket: WebSocket, allowed: tuple[str, ...]) -> bool:
    """Return whether a browser's page may open the socket: the service's own, or one that the settings list.

    The host of the request, with which its origin is compared, is an allowed one: others are refused before.
    """
    origin = websocket.headers.get("origin")
    if origin is None:
        return True
    host = websocket.headers.get("host", "")
    return origin in allowed or origin in (f"http://{host}", f"https://{host}")


class SocketSession:
    """One socket: its caller and what it follows. A subscription that is live costs no task."""

    __slots__ = (
        "_address",
        "_authenticator",
        "_caller",
        "_credential",
        "_credentials",
        "_following",
        "_hub",
        "_pacer",
        "_sink",
        "_socket",
        "_watched",
    )

    def __init__(
        self, websocket: WebSocket, authenticator: Authenticator, credentials: CredentialWatch, hub: EventHub
    ) -> None:
        self._socket = websocket
        self._authenticator = authenticator
        self._credentials = credentials
        self._hub = hub
        self._address = address_of(websocket)
        self._caller: Caller | None = None
        self._credential: str | None = None
        self._following: dict[str, Subscription] = {}
        self._sink: SocketSink | None = None
        self._pacer: DeltaPacer[Subscription] | None = None
        self._watched = contextlib.ExitStack()

    async def authenticate(self) -> Caller | None:
        """Identify the caller by the handshake, the anonymous role or the first message, or close the socket."""
        try:
            caller = await self._authenticator.identify(self._socket.headers, self._address)
            self._credential = key_in(self._socket.headers)
            if caller.role is None:
                async with asyncio.timeout(AUTH_SECONDS):
                    caller = await self._first_message()
            self._caller = require(caller, Role.VIEWER)
        except TimeoutError:
            await self._socket.close(CLOSE_NO_AUTH_IN_TIME, "No auth message came in time.")
        except NotAllowed as error:
            await self._socket.close(CLOSE_NOT_ALLOWED, error.message)
        except PyMongoError:
            await self._socket.close(CLOSE_TRY_AGAIN_LATER, "The database does not answer.")
        except TooManyRequests as error:
            await self._socket.send_text(error_message(error.code, error.message, None).decode())
            await self._socket.close(CLOSE_UNAUTHENTICATED, close_reason(error.message))
        except TokenKeysUnavailable as error:
            await self._socket.close(CLOSE_TRY_AGAIN_LATER, close_reason(error.message))
        except AppError:  # no credentials, invalid ones, or no message of the protocol
            await self._socket.close(CLOSE_UNAUTHENTICATED, "No valid credentials.")
        return self._caller

    async def _first_message(self) -> Caller:
        message = parse_message(await self._receive())
        if not isinstance(message, Auth):
            raise NotAuthenticated
        self._credential = message.token
        return await self._authenticator.identify_key(message.token, self._address)

    async def serve(self) -> None:
        """Answer the client's messages; an invalid one gets an error, and the socket stays open."""
        self._sink = sink = sink_for(self._socket)
        sink.on_stalled = self._close_too_slow
        self._watch_credential()
        try:
            while True:
                received = await self._receive()
                try:
                    answer = await self._answer(parse_message(received))
                except AppError as error:
                    answer = error_message(error.code, error.message, execution_id_in(received))
                except PyMongoError:
                    answer = error_message(
                        "database-unavailable", "The database does not answer; try again.", execution_id_in(received)
                    )
                if answer:
                    sink.send_text(answer)
                await sink.drained()
        finally:
            self._watched.close()
            if self._pacer:
                self._pacer.stop()
            for execution_id in list(self._following):
                self._unfollow(execution_id)
            await sink.end()

    def _watch_credential(self) -> None:
        self._watched.close()
        self._watched.enter_context(self._credentials.watching(self._credential, self._close_revoked))

    async def _receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        text = message.get("text")
        return text if text is not None else message.get("bytes", b"")

    async def _answer(self, message: AnyMessage) -> bytes | None:
        match message:
            case Ping():
                return Pong().as_text()
            case Auth():
                return await self._authenticate_again(message)
            case Unsubscribe():
                self._unfollow(message.execution_id)
                return Unsubscribed(execution_id=message.execution_id).as_text()
            case Subscribe():
                return await self._subscribe(message)

    async def _authenticate_again(self, message: Auth) -> None:
        """Continue as another caller, and drop the subscriptions that it may not have."""
        caller = await self._authenticator.identify_key(message.token, self._address)
        self._caller = require(caller, Role.VIEWER)
        self._credential = message.token
        self._watch_credential()
        for subscription in list(self._following.values()):
            if not caller.may_see(subscription.head.project):
                subscription.fail(ExecutionNotFound(subscription.head.execution_id))

    async def _subscribe(self, message: Subscribe) -> None:
        head = await self._hub.head(message.execution_id)
        if self._caller is None or self._sink is None or not self._caller.may_see(head.project):
            raise ExecutionNotFound(message.execution_id)
        head.ensure_reached(message.after_seq)
        self._unfollow(message.execution_id)
        if len(self._following) >= MAX_SUBSCRIPTIONS:
            raise TooManySubscriptions(f"A socket follows at most {MAX_SUBSCRIPTIONS} executions.")
        answer = Subscribed(execution_id=head.execution_id, last_seq=head.last_seq, status=head.status)
        self._sink.send_text(answer.as_text())
        subscription = Subscription(head, message.after_seq, self._sink, deltas=message.deltas)
        subscription.on_end = lambda: self._unfollow(head.execution_id)
        self._following[head.execution_id] = subscription
        self._share_pace()
        self._hub.subscribe(subscription)

    def _share_pace(self) -> None:
        """Let several streams of live text share one pace; a single stream keeps the pace of its broadcaster."""
        streams = [one for one in self._following.values() if one.deltas]
        if self._pacer is None and len(streams) > 1:
            self._pacer = DeltaPacer(show_live_text)
        for stream in streams:
            stream.pacer = self._pacer

    def _unfollow(self, execution_id: str) -> None:
        subscription = self._following.pop(execution_id, None)
        if subscription:
            self._hub.unsubscribe(subscription)
            if self._pacer:
                self._pacer.forget(subscription)

    def _close_too_slow(self) -> None:
        """Close a socket whose client does not read, with the number to resume from for the slowest subscription."""
        slowest = min(self._following.values(), key=lambda one: one.after, default=None)
        reason = f"Too slow; resume with afterSeq {slowest.after if slowest else 0}"
        if slowest and len(self._following) > 1:
            reason += f" of {slowest.head.execution_id}"
        log.info("socket-too-slow", executionId=slowest.head.execution_id if slowest else None)
        self._close(CLOSE_TOO_SLOW, close_reason(reason), SLOW_LAST_WORDS_SECONDS)

    def _close_revoked(self) -> None:
        """Close a socket whose credentials are no longer valid."""
        self._close(CLOSE_UNAUTHENTICATED, "The key has been revoked, or the token has expired.")

    def _close(self, code: int, reason: str, patience_seconds: float = LAST_WORDS_SECONDS) -> None:
        for execution_id in list(self._following):
            self._unfollow(execution_id)
        if self._sink:
            self._sink.close(code, reason, patience_seconds)


def show_live_text(stream: Subscription, delta: AgentDelta) -> None:
    """Send live text, unless stored events of its stream are still pending."""
    if stream.is_live and not stream.sink.is_full:
        stream.sink.send(Batch([delta]))


def close_reason(text: str) -> str:
    """As much of a text as fits into a close frame."""
    return text.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


def error_message(code: str, message: str, execution_id: str | None) -> bytes:
    """Return an error as a server message."""
    return ErrorMessage(code=code, message=message, execution_id=execution_id).as_text()

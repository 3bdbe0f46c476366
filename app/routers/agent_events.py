"""The WebSocket at `/api/agent-events`: subscribe to executions, receive their events gapless and in order."""

import asyncio
import json
from typing import Annotated, Any, Literal

import orjson
import structlog
from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pymongo.errors import PyMongoError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from app.dependencies import Services, address_of
from app.errors import AppError, InvalidInput
from app.events.bus import Ending
from app.events.replay import ExecutionNotFound
from app.events.types import AgentDelta, Frame
from app.models.api_key import Role
from app.models.json_values import clean_text
from app.routers.server_sent_events import ending_text
from app.services.access.api_keys import Caller
from app.services.access.roles import NotAllowed, NotAuthenticated, require
from app.services.runs.requests import Text

AUTH_SECONDS = 5.0
MAX_SUBSCRIPTIONS = 100
MAX_SEQ = 2**53
CLOSE_TRY_AGAIN_LATER = 1013
CLOSE_UNAUTHENTICATED = 4401
CLOSE_NOT_ALLOWED = 4403
CLOSE_NO_AUTH_IN_TIME = 4408

router = APIRouter()
log = structlog.get_logger(__name__)


class ClientMessage(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)


class Auth(ClientMessage):
    """The first message of a client whose handshake carried no key."""

    type: Literal["auth"]
    token: Annotated[Text, Field(min_length=1, max_length=8192)]


class Subscribe(ClientMessage):
    """Follow an execution after an event number; a root brings its whole tree."""

    type: Literal["subscribe"]
    execution_id: Annotated[Text, Field(min_length=1, max_length=200)]
    after_seq: int = Field(default=0, ge=0, le=MAX_SEQ)
    deltas: bool = False


class Unsubscribe(ClientMessage):
    """Stop following an execution."""

    type: Literal["unsubscribe"]
    execution_id: Annotated[Text, Field(min_length=1, max_length=200)]


class Ping(ClientMessage):
    """Ask whether the other side is there."""

    type: Literal["ping"]


AnyMessage = Auth | Subscribe | Unsubscribe | Ping
MESSAGES: TypeAdapter[AnyMessage] = TypeAdapter(AnyMessage)


class MalformedMessage(InvalidInput):
    """A message that the protocol does not have; the socket stays open."""

    code = "malformed-message"


class TooManySubscriptions(InvalidInput):
    """The socket follows as many executions as one may."""

    code = "too-many-subscriptions"


class SeqOutOfRange(InvalidInput):
    """The client asks to resume beyond what exists: it knows another run, or another database."""

    code = "seq-out-of-range"


@router.websocket("/api/agent-events")
async def agent_events(websocket: WebSocket) -> None:
    """Serve one socket until either side closes it."""
    services: Services = websocket.app.state.services
    if not origin_allowed(websocket, services.settings.allowed_origins):
        await websocket.close(CLOSE_NOT_ALLOWED)
        return
    await websocket.accept()
    session = SocketSession(websocket, services)
    try:
        if await session.authenticate():
            await session.serve()
    except WebSocketDisconnect:
        pass
    finally:
        await session.end()


def origin_allowed(websocket: WebSocket, allowed: tuple[str, ...]) -> bool:
    """Whether a browser's page may open the socket: the service's own, or one that the settings list."""
    origin = websocket.headers.get("origin")
    if origin is None:
        return True
    host = websocket.headers.get("host", "")
    return origin in allowed or origin in (f"http://{host}", f"https://{host}")


class SocketSession:
    """One socket: its caller and what it follows."""

    def __init__(self, websocket: WebSocket, services: Services) -> None:
        self._socket = websocket
        self._services = services
        self._address = address_of(websocket)
        self._caller: Caller | None = None
        self._following: dict[str, asyncio.Task[None]] = {}

    async def authenticate(self) -> bool:
        """Find the caller in the handshake, in the anonymous role, or in the first message; else close."""
        try:
            caller = await self._services.gatekeeper.identify(self._socket.headers, self._address)
            if caller.role is None:
                async with asyncio.timeout(AUTH_SECONDS):
                    caller = await self._first_message()
            self._caller = require(caller, Role.VIEWER)
        except TimeoutError:
            await self._socket.close(CLOSE_NO_AUTH_IN_TIME, "No auth message came in time.")
        except NotAllowed as error:
            await self._socket.close(CLOSE_NOT_ALLOWED, error.message)
        except (NotAuthenticated, MalformedMessage):
            await self._socket.close(CLOSE_UNAUTHENTICATED, "No valid credentials.")
        except PyMongoError:
            await self._socket.close(CLOSE_TRY_AGAIN_LATER, "The database does not answer.")
        return self._caller is not None

    async def _first_message(self) -> Caller:
        message = parse_message(await self._receive())
        if not isinstance(message, Auth):
            raise NotAuthenticated
        return await self._services.gatekeeper.identify_key(message.token, self._address)

    async def serve(self) -> None:
        """Answer the client's messages; a wrong one is answered with an error, and the socket stays open."""
        while True:
            received = await self._receive()
            try:
                await self._answer(parse_message(received))
            except AppError as error:
                await self._send_error(error, execution_id_in(received))
            except PyMongoError:
                await self._send(
                    error_message("database-unavailable", "The database does not answer; try again.", None)
                )

    async def _receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        text = message.get("text")
        return text if text is not None else message.get("bytes", b"")

    async def _answer(self, message: AnyMessage) -> None:
        match message:
            case Ping():
                await self._send({"type": "pong"})
            case Auth():
                await self._authenticate_again(message)
            case Unsubscribe():
                await self._unfollow(message.execution_id)
                await self._send({"type": "unsubscribed", "executionId": message.execution_id})
            case Subscribe():
                await self._subscribe(message)

    async def _authenticate_again(self, message: Auth) -> None:
        caller = await self._services.gatekeeper.identify_key(message.token, self._address)
        self._caller = require(caller, Role.VIEWER)

    async def _subscribe(self, message: Subscribe) -> None:
        head = await self._services.hub.head(message.execution_id)
        if self._caller is None or not self._caller.may_see(head.project):
            raise ExecutionNotFound(message.execution_id)
        if message.after_seq > head.last_seq:
            raise SeqOutOfRange(f"afterSeq {message.after_seq} is beyond the last event, {head.last_seq}.")
        await self._unfollow(message.execution_id)
        if len(self._following) >= MAX_SUBSCRIPTIONS:
            raise TooManySubscriptions(f"A socket follows at most {MAX_SUBSCRIPTIONS} executions.")
        await self._send(
            {
                "type": "subscribed",
                "executionId": head.execution_id,
                "lastSeq": head.last_seq,
                "status": head.status.value,
            }
        )
        task = asyncio.create_task(self._follow(message), name=f"follow {head.execution_id}")
        self._following[head.execution_id] = task
        task.add_done_callback(lambda done: self._forget(head.execution_id, done))

    async def _follow(self, message: Subscribe) -> None:
        """Send a stream; the socket's own pace is the pace, and the hub's buffer is bounded."""
        try:
            head = await self._services.hub.head(message.execution_id)
            async for item in self._services.hub.follow(head, message.after_seq, deltas=message.deltas):
                await self._send_text(text_of(item))
        except AppError as error:
            await self._send_error(error, message.execution_id)
        except PyMongoError as error:
            log.warning("stream-interrupted", error=type(error).__name__)
            text = "The database does not answer; subscribe again after the last seq you have."
            await self._send(error_message("database-unavailable", text, message.execution_id))
        except (WebSocketDisconnect, RuntimeError):
            pass  # the socket closed while an event was on its way

    def _forget(self, execution_id: str, done: asyncio.Task[None]) -> None:
        if self._following.get(execution_id) is done:
            del self._following[execution_id]

    async def _unfollow(self, execution_id: str) -> None:
        task = self._following.pop(execution_id, None)
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def end(self) -> None:
        """Stop all that the socket follows."""
        for execution_id in list(self._following):
            await self._unfollow(execution_id)

    async def _send_error(self, error: AppError, execution_id: str | None) -> None:
        await self._send(error_message(error.code, error.message, execution_id))

    async def _send(self, message: dict[str, Any]) -> None:
        await self._send_text(orjson.dumps(message).decode())

    async def _send_text(self, text: str) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            await self._socket.send_text(text)


def parse_message(received: str | bytes) -> AnyMessage:
    """A client's message.

    Raises:
        MalformedMessage: it is none of the protocol's.
    """
    if isinstance(received, bytes):
        raise MalformedMessage("Messages are JSON text frames, not binary ones.")
    try:
        value = json.loads(received)
    except (ValueError, RecursionError):
        raise MalformedMessage("The message is not JSON.") from None
    kinds = {"auth": Auth, "subscribe": Subscribe, "unsubscribe": Unsubscribe, "ping": Ping}
    name = value.get("type") if isinstance(value, dict) else None
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise MalformedMessage(f"The message's type must be one of {', '.join(kinds)}.")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise MalformedMessage(clean_text(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")) from None


def execution_id_in(received: str | bytes) -> str | None:
    """The execution that a message was about, for the answer to a wrong one."""
    try:
        value = json.loads(received)
    except (ValueError, RecursionError):
        return None
    execution_id = value.get("executionId") if isinstance(value, dict) else None
    return execution_id[:200] if isinstance(execution_id, str) and execution_id.isascii() else None


def error_message(code: str, message: str, execution_id: str | None) -> dict[str, Any]:
    """An error as a server message."""
    about = {"executionId": execution_id} if execution_id else {}
    return {"type": "error", "code": code, "message": message, **about}


def text_of(item: Frame | AgentDelta | Ending) -> str:
    """What is sent of a stream's item."""
    match item:
        case Frame():
            return item.text
        case AgentDelta():
            return item.model_dump_json(by_alias=True)
        case Ending():
            return ending_text(item)

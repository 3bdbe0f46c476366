"""The messages of the event socket, in both directions, except for events."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from app.errors import InvalidInput
from app.kit.json_limits import MAX_INTEGER
from app.kit.json_values import clean_text
from app.kit.schemas import Text
from app.kit.strict_json import MalformedJson, parse_json
from app.models.agent_execution import ExecutionStatus
from app.routers.http.strict_input import refuse_unknown_fields

MAX_MESSAGE_CHARACTERS = 16 * 1024
"""Longer than any message of the protocol. A message of this size is parsed within 3 ms."""


class ClientMessage(BaseModel):
    """A message from the client."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, use_attribute_docstrings=True)


class Auth(ClientMessage):
    """Authenticate, as the first message after a handshake without a key."""

    type: Literal["auth"]
    token: Annotated[Text, Field(min_length=1, max_length=8192)]
    """An API key or a JSON Web Token."""


class Subscribe(ClientMessage):
    """Follow an execution from an event number on. A root includes its tree."""

    type: Literal["subscribe"]
    execution_id: Annotated[Text, Field(min_length=1, max_length=200)]
    after_seq: int = Field(default=0, ge=0, le=MAX_INTEGER)
    """The last event that the client has; 0 for all events."""
    deltas: bool = False
    """Whether to receive the models' text while it is written."""


class Unsubscribe(ClientMessage):
    """Stop following an execution."""

    type: Literal["unsubscribe"]
    execution_id: Annotated[Text, Field(min_length=1, max_length=200)]


class Ping(ClientMessage):
    """Check the connection."""

    type: Literal["ping"]


AnyMessage = Auth | Subscribe | Unsubscribe | Ping


class ServerMessage(BaseModel):
    """A message from the service."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    def as_text(self) -> bytes:
        """Return the message as JSON."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Subscribed(ServerMessage):
    """The subscription is active: the stored events after `afterSeq` follow, then live ones."""

    type: Literal["subscribed"] = "subscribed"
    execution_id: str
    last_seq: int
    status: ExecutionStatus


class Unsubscribed(ServerMessage):
    """The subscription has ended."""

    type: Literal["unsubscribed"] = "unsubscribed"
    execution_id: str


class Pong(ServerMessage):
    """The reply to a ping."""

    type: Literal["pong"] = "pong"


class ErrorMessage(ServerMessage):
    """A message was invalid, or a stream cannot continue. The socket stays open."""

    type: Literal["error"] = "error"
    code: str
    message: str
    execution_id: str | None = None


class ExecutionEnd(ServerMessage):
    """The execution has ended. This is the last message about it."""

    type: Literal["execution-end"] = "execution-end"
    execution_id: str
    status: ExecutionStatus
    last_seq: int


class MalformedMessage(InvalidInput):
    """The message is not part of the protocol. The socket stays open."""

    code = "malformed-message"


def parse_message(received: str | bytes) -> AnyMessage:
    """Parse a client's message.

    Raises:
        MalformedMessage: it is not a message of the protocol.
    """
    if isinstance(received, bytes):
        raise MalformedMessage("Messages are JSON text frames, not binary frames.")
    if len(received) > MAX_MESSAGE_CHARACTERS:
        raise MalformedMessage(f"The message is longer than {MAX_MESSAGE_CHARACTERS} characters.")
    try:
        value = parse_json(received)
    except MalformedJson:
        raise MalformedMessage("The message is not JSON.") from None
    except InvalidInput as error:
        raise MalformedMessage(error.message) from None
    kinds = {"auth": Auth, "subscribe": Subscribe, "unsubscribe": Unsubscribe, "ping": Ping}
    name = value.get("type") if isinstance(value, dict) else None
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise MalformedMessage(f"The message's type must be one of {', '.join(kinds)}.")
    try:
        refuse_unknown_fields(value, [kind])
        return kind.model_validate(value)
    except InvalidInput as error:
        raise MalformedMessage(error.message) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise MalformedMessage(clean_text(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")) from None


def execution_id_in(received: str | bytes) -> str | None:
    """Return the execution that an invalid message names, for the reply."""
    if len(received) > MAX_MESSAGE_CHARACTERS:
        return None
    try:
        value: Any = json.loads(received)
    except (ValueError, RecursionError):
        return None
    execution_id = value.get("executionId") if isinstance(value, dict) else None
    return execution_id[:200] if isinstance(execution_id, str) and execution_id.isascii() else None

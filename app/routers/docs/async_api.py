"""`/asyncapi.json`: the event socket described as AsyncAPI 3, from the models that the socket itself uses."""

from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from app.events.types import AgentDelta, Event
from app.kit.json_limits import MAX_INTEGER, JsonObject
from app.routers.sockets.messages import (
    Auth,
    ErrorMessage,
    ExecutionEnd,
    Ping,
    Pong,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
)

ADDRESS = "/api/agent-events"
SCHEMA_REF = "#/components/schemas/{model}"
EXECUTION_ID = "exec_1763800000000_k3j9x2m1q"
CLIENT_MESSAGES: dict[type[BaseModel], JsonObject] = {
    Auth: {"type": "auth", "token": "da_…"},
    Subscribe: {"type": "subscribe", "executionId": EXECUTION_ID, "afterSeq": 0, "deltas": False},
    Unsubscribe: {"type": "unsubscribe", "executionId": EXECUTION_ID},
    Ping: {"type": "ping"},
}
SERVER_MESSAGES: dict[type[BaseModel], JsonObject] = {
    Subscribed: {"type": "subscribed", "executionId": EXECUTION_ID, "lastSeq": 7, "status": "running"},
    Unsubscribed: {"type": "unsubscribed", "executionId": EXECUTION_ID},
    Pong: {"type": "pong"},
    ErrorMessage: {"type": "error", "code": "execution-not-found", "message": "There is no such execution."},
    ExecutionEnd: {"type": "execution-end", "executionId": EXECUTION_ID, "status": "completed", "lastSeq": 12},
    AgentDelta: {
        "type": "agent-delta",
        "executionId": EXECUTION_ID,
        "rootExecutionId": EXECUTION_ID,
        "agentId": "story-head-001",
        "text": "Once",
    },
}
SAMPLES: dict[str, Any] = {"string": "text", "number": 0.5, "integer": 1, "boolean": True, "object": {}, "array": []}
HEAD: JsonObject = {
    "seq": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_INTEGER,
        "description": "Counts 1, 2, 3 … over the run tree.",
    },
    "executionId": {"type": "string", "description": "The execution that the event belongs to."},
    "rootExecutionId": {"type": "string", "description": "The root of its run tree."},
    "timestamp": {"type": "string", "format": "date-time", "description": "When the event was stored."},
}
CUT: JsonObject = {
    "truncated": {
        "const": True,
        "description": "A payload over 64 KiB is truncated. GET …/events/{seq} has all of it.",
    },
    "size": {"type": "integer", "description": "Bytes of the complete event's JSON."},
    "sha256": {"type": "string", "description": "The SHA-256 of the complete event's JSON."},
}
DESCRIPTION = """
Subscribe to executions and receive their events: the stored ones after `afterSeq`, then live ones, each once and in
order. If the handshake carried no key, the client sends `auth` within five seconds. A subscription to a root delivers
the events of its tree; a subscription to a child delivers the events of that child.

Close codes:

- 4401: the credentials are missing or invalid. After too many attempts, an `error` with the code `rate-limited` comes
  first.
- 4403: the caller's role does not permit it.
- 4408: no `auth` arrived in time.
- 4409: the client reads too slowly. The reason contains the `afterSeq` to resume with.
- 1007: a text is not UTF-8.
- 1008: too many frames a second, or too many fragments in a message.
- 1009: a message is larger than 64 KiB.
- 1011: the service failed.
- 1012: the service is restarting.
- 1013: the database does not answer, or too many sockets are open.

The handshake is refused with problem details if a page of an unlisted origin opens the socket (403), or if the `Host`
header names an unknown host (421).
"""

INFO: JsonObject = {
    "title": "Dynamic Agents",
    "description": DESCRIPTION,
    "contact": {"name": "The operators of this service"},
    "license": {"name": "Apache-2.0"},
    "tags": [{"name": "executions", "description": "The events of executions."}],
}

router = APIRouter()


@router.get("/asyncapi.json", include_in_schema=False)
def get_async_api() -> JsonObject:
    """The description of the event socket."""
    return async_api()


@cache
def async_api() -> JsonObject:
    """Build the document, once."""
    schemas: JsonObject = {}
    client = [message_of(model, example, schemas) for model, example in CLIENT_MESSAGES.items()]
    server = [message_of(model, example, schemas) for model, example in SERVER_MESSAGES.items()]
    server += [event_message(kind, schemas) for kind in event_classes(Event)]
    messages = {message["name"]: message for message in (*client, *server)}
    channel = {"$ref": "#/channels/agentEvents"}
    return {
        "asyncapi": "3.0.0",
        "info": INFO | {"version": version("dynamic-agents")},
        "servers": {"local": {"host": "127.0.0.1:8000", "protocol": "ws", "description": "After `make serve`."}},
        "defaultContentType": "application/json",
        "channels": {
            "agentEvents": {
                "address": ADDRESS,
                "title": "The event socket",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "receiveFromClient": {
                "action": "receive",
                "channel": channel,
                "messages": references(client),
                "description": "Messages that a client may send.",
            },
            "sendToClient": {
                "action": "send",
                "channel": channel,
                "messages": references(server),
                "description": "Messages that the service sends: replies, stored events, then live events.",
            },
        },
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "httpApiKey", "name": "X-API-Key", "in": "header"},
            },
        },
    }


def references(messages: list[JsonObject]) -> list[JsonObject]:
    """Return references to the messages of an operation."""
    return [{"$ref": f"#/channels/agentEvents/messages/{message['name']}"} for message in messages]


def event_classes(parent: type[Event]) -> list[type[Event]]:
    """Return every kind of event."""
    found = [kind for child in parent.__subclasses__() for kind in event_classes(child)]
    return found if "type" not in vars(parent) else [parent, *found]


def message_of(model: type[BaseModel], example: JsonObject, schemas: JsonObject) -> JsonObject:
    """Describe a message whose payload is a model, and add its schema to the others."""
    schema = schema_of(model, schemas)
    schemas[model.__name__] = schema
    return message(example["type"], model.__name__, model.__doc__ or "", example)


def event_message(kind: type[Event], schemas: JsonObject) -> JsonObject:
    """Describe the message of an event: its own fields and those of every event."""
    schema = schema_of(kind, schemas)
    own = schema.get("properties", {})
    example: JsonObject = {
        "type": kind.type,
        "seq": 7,
        "executionId": EXECUTION_ID,
        "rootExecutionId": EXECUTION_ID,
        "timestamp": "2026-01-01T00:00:00.000Z",
        **{name: sample_of(own[name]) for name in schema.get("required", [])},
    }
    schema["properties"] = {"type": {"const": kind.type}, **HEAD, **own, **CUT}
    schema["required"] = ["type", *HEAD, *schema.get("required", [])]
    schemas[kind.__name__] = schema
    return message(kind.type, kind.__name__, kind.__doc__ or "", example)


def schema_of(model: type[BaseModel], schemas: JsonObject) -> JsonObject:
    """Return the JSON schema of a model. Its definitions are added to the others."""
    schema = model.model_json_schema(by_alias=True, ref_template=SCHEMA_REF)
    schemas |= schema.pop("$defs", {})
    return schema


def sample_of(schema: JsonObject) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value that a field can have."""
    chosen = schema.get("anyOf", [schema])[0]
    return SAMPLES.get(chosen.get("type", "object"))


def message(name: str, schema: str, summary: str, example: JsonObject) -> JsonObject:
    """Return a message in AsyncAPI's form."""
    return {
        "name": name,
        "title": schema,
        "summary": summary.split("\n", maxsplit=1)[0],
        "contentType": "application/json",
        "payload": {"$ref": SCHEMA_REF.format(model=schema)},
        "examples": [{"name": name, "payload": example}],
    }

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
    "executionId": {"type": "string"},
    "rootExecutionId": {"type": "string"},
    "timestamp": {"type": "string", "format": "date-time"},
}
CUT: JsonObject = {
    "truncated": {
        "const": True,
        "description": "A payload over 64 KiB is cut; GET …/executions/{executionId}/events/{seq} gives it whole.",
    },
    "size": {"type": "integer", "description": "Bytes of the whole event's JSON."},
    "sha256": {"type": "string", "description": "The SHA-256 of the whole event's JSON."},
}
DESCRIPTION = """
Subscribe to executions and receive their events: the stored ones after `afterSeq`, then live ones, in order, once.
A socket whose handshake carried no key sends `auth` first, within five seconds. Subscribing to a root delivers its
whole tree, to a child that child's events.

Close codes: 4401 no or invalid credentials (behind an `error` with the code `rate-limited` where too many were sent),
4403 not allowed, 4408 no `auth` in time, 4409 too slow (the reason has the `afterSeq` to resume with), 1007 a text
that is not UTF-8, 1008 too many frames a second or fragments a message, 1009 a message over 64 KiB, 1011 the service
failed, 1012 it restarts, 1013 its database does not answer, or too many sockets are open. A page of an origin that is
not listed is refused in the handshake: 403, as problem details. So is a socket for a host that is not one of the
service's: 421.
"""

router = APIRouter()


@router.get("/asyncapi.json", include_in_schema=False)
def get_async_api() -> JsonObject:
    """The description of the event socket."""
    return async_api()


@cache
def async_api() -> JsonObject:
    """The document, made once."""
    schemas: JsonObject = {}
    client = [message_of(model, example, schemas) for model, example in CLIENT_MESSAGES.items()]
    server = [message_of(model, example, schemas) for model, example in SERVER_MESSAGES.items()]
    server += [event_message(kind, schemas) for kind in event_classes(Event)]
    messages = {message["name"]: message for message in (*client, *server)}
    channel = {"$ref": "#/channels/agentEvents"}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Dynamic Agents", "version": version("dynamic-agents"), "description": DESCRIPTION},
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
            "receiveFromClient": {"action": "receive", "channel": channel, "messages": references(client)},
            "sendToClient": {"action": "send", "channel": channel, "messages": references(server)},
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
    """The channel's messages that an operation takes or gives."""
    return [{"$ref": f"#/channels/agentEvents/messages/{message['name']}"} for message in messages]


def event_classes(parent: type[Event]) -> list[type[Event]]:
    """Every kind of event that there is."""
    found = [kind for child in parent.__subclasses__() for kind in event_classes(child)]
    return found if "type" not in vars(parent) else [parent, *found]


def message_of(model: type[BaseModel], example: JsonObject, schemas: JsonObject) -> JsonObject:
    """A message whose payload is a model; its schemas go among the others."""
    schema = schema_of(model, schemas)
    schemas[model.__name__] = schema
    return message(example["type"], model.__name__, model.__doc__ or "", example)


def event_message(kind: type[Event], schemas: JsonObject) -> JsonObject:
    """The message of an event: its own fields and those that every event has."""
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
    """The JSON schema of a model; the definitions in it go among the others."""
    schema = model.model_json_schema(by_alias=True, ref_template=SCHEMA_REF)
    schemas |= schema.pop("$defs", {})
    return schema


def sample_of(schema: JsonObject) -> Any:  # noqa: ANN401 - any JSON value
    """A value that a field can have."""
    chosen = schema.get("anyOf", [schema])[0]
    return SAMPLES.get(chosen.get("type", "object"))


def message(name: str, schema: str, summary: str, example: JsonObject) -> JsonObject:
    """A message in AsyncAPI's form."""
    return {
        "name": name,
        "title": schema,
        "summary": summary.split("\n", maxsplit=1)[0],
        "contentType": "application/json",
        "payload": {"$ref": SCHEMA_REF.format(model=schema)},
        "examples": [{"name": name, "payload": example}],
    }

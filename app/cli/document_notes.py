"""What is wrong with documents that can be read, by the rules that the service and a Payload CMS share.

Each problem is one sentence about several documents, so that those that have it are counted under it.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from bson import ObjectId

from app.database.connection import Database, Raw
from app.kit.json_limits import MAX_INTEGER
from app.kit.json_values import JsonObject, clean_json
from app.models.agent import Agent
from app.models.agent_execution import AgentExecution
from app.models.base import PayloadDocument
from app.models.custom_tool import CustomTool
from app.models.department import Department
from app.models.quality_weights import DEFAULT_SLUG
from app.services.catalog.seeds.files import ROW_FIELDS
from app.services.tools.names import MCP_FUNCTION_PREFIX, MCP_PREFIX
from app.services.tools.schema_weight import InvalidSchema
from app.services.tools.schemas import compile_schema

MAX_NAMED = 5
KEYS = ("agentId", "slug", "toolName", "executionId")
RELATIONS = ("agent", "department", "project", "episode", "reviewedBy")
DATES = ("createdAt", "updatedAt", "startedAt", "completedAt", "lastExecutedAt", "lastUsedAt")
JSON_FIELDS = ("params", "output", "runState", "tokenUsage", "error")
UNREAD = {"events": 0, "runState": 0, "output": 0}
"""Fields that are too large to be read here, as a projection."""
BOUNDS = {
    "qualityScore": (0, 100),
    "qualityThreshold": (0, 100),
    "successRate": (0, 100),
    "maxAgentSteps": (5, 100),
    "priority": (1, 10),
}
ROW_ID = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True)
class Known:
    """What documents may refer to."""

    departments: frozenset[ObjectId]
    tools: Mapping[str, frozenset[str] | None]
    """The tools by name, each with the departments that it is offered to; `None` for all."""
    models: frozenset[str]


@dataclass
class Tally:
    """How many documents have a problem, and the first few."""

    count: int = 0
    names: list[str] = field(default_factory=list[str])

    def add(self, raw: Raw) -> None:
        """Count one."""
        self.count += 1
        if self.count <= MAX_NAMED:
            self.names.append(name_of(raw))

    def told(self, problem: str) -> str:
        """The problem with its count and names."""
        more = ", …" if self.count > len(self.names) else ""
        return f"{self.count} document{'' if self.count == 1 else 's'} ({', '.join(self.names)}{more}): {problem}"


async def load_known(database: Database, models: frozenset[str]) -> Known:
    """What is stored that documents may refer to."""
    departments = await database[Department.get_collection_name()].find({}, {"_id": 1}).to_list()
    fields = {"toolName": 1, "isGlobal": 1, "departments": 1}
    tools = await database[CustomTool.get_collection_name()].find({}, fields).to_list()
    offers = {
        str(tool.get("toolName")): None
        if tool.get("isGlobal") is True
        else frozenset(map(str, listed(tool, "departments")))
        for tool in tools
    }
    return Known(frozenset(one["_id"] for one in departments), offers, models)


def name_of(raw: Raw) -> str:
    """The natural key of a document, or its id."""
    return next((str(raw[key]) for key in KEYS if raw.get(key)), str(raw["_id"]))


def problems_of(document: type[PayloadDocument], raw: Raw, known: Known) -> Iterator[str]:
    """What is wrong with a document that can be read, apart from the fields that were left out."""
    yield from wrong_types(raw)
    yield from wrong_numbers(raw)
    yield from wrong_json(raw)
    if document in OWN_RULES:
        yield from OWN_RULES[document](raw, known)


def wrong_types(raw: Raw) -> Iterator[str]:
    """Ids and relations that are no ObjectIds, dates that are none."""
    if not isinstance(raw["_id"], ObjectId):
        yield "_id is no ObjectId: a Payload CMS lists the document and cannot open it"
    for name in RELATIONS:
        if isinstance(raw.get(name), str):
            yield f"{name} is stored as text and not as an ObjectId: no search for it finds the document"
    if any(isinstance(one, str) for one in listed(raw, "departments")):
        yield "departments holds text and not ObjectIds: no search for one of them finds the document"
    for name in DATES:
        if isinstance(raw.get(name), str | int | float):
            yield f"{name} is no date: the document is sorted wrongly"


def wrong_numbers(raw: Raw) -> Iterator[str]:
    """Numbers out of their bounds."""
    for name, (low, high) in BOUNDS.items():
        value = raw.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            yield f"{name} is not from {low} to {high}: a Payload CMS cannot save the document"


def wrong_json(raw: Raw) -> Iterator[str]:
    """JSON that JavaScript cannot hold, and rows that Payload cannot tell apart."""
    for name in (*JSON_FIELDS, "inputSchema", "exampleInputs"):
        if name not in UNREAD and not is_plain_json(raw.get(name)):
            yield f"{name} holds what JSON does not have, or an integer beyond 2^53"
    for name, key in ROW_FIELDS.items():
        rows = listed(raw, name)
        if not all(isinstance(row.get("id"), str) and ROW_ID.fullmatch(row["id"]) for row in rows):
            yield f"{name} has a row without an id of 24 hexadecimal digits of its own"
        if not all(row.get(key) not in (None, "", 0, False) for row in rows):
            yield f"{name} has a row without {key}: a Payload CMS cannot save the document"


def problems_of_agent(raw: Raw, known: Known) -> Iterator[str]:
    """What keeps an agent from running."""
    department = raw.get("department")
    if department is None:
        yield "there is no department: runs are refused (409)"
    elif ObjectId(department) not in known.departments:
        yield "the department no longer exists: runs are refused (409)"
    yield from wrong_model(raw, "model", known)
    names = {str(row.get("toolName")) for row in listed(raw, "toolNames")}
    for name in sorted(one for one in names if not one.startswith(MCP_PREFIX)):
        offers = known.tools.get(name, frozenset())
        if name not in known.tools:
            yield f"toolNames has {name!r}, which does not exist: it is not granted"
        elif offers is not None and department in known.departments and str(department) not in offers:
            yield f"toolNames has {name!r}, which is not offered to the agent's department: it is not granted"


def problems_of_department(raw: Raw, known: Known) -> Iterator[str]:
    """What a department may not be."""
    if raw.get("slug") == DEFAULT_SLUG:
        yield f"the slug is {DEFAULT_SLUG!r}: its quality weights are those of all departments without their own"
    yield from wrong_model(raw, "defaultModel", known)


def problems_of_tool(raw: Raw, known: Known) -> Iterator[str]:
    """What a tool lacks."""
    if str(raw.get("toolName")).startswith((MCP_PREFIX, MCP_FUNCTION_PREFIX)):
        yield f"toolName begins with {MCP_PREFIX!r} or {MCP_FUNCTION_PREFIX!r}, as MCP tools do: it is not granted"
    if raw.get("inputSchema") is None:
        yield "inputSchema is unset: a Payload CMS cannot save the document"
    elif problem := problem_with_schema(raw["inputSchema"]):
        yield f"inputSchema is refused, and no run is offered the tool: {problem}"
    if any(ObjectId(one) not in known.departments for one in listed(raw, "departments")):
        yield "departments has one that no longer exists"


def problem_with_schema(schema: JsonObject) -> str | None:
    """Why an input schema cannot be compiled, or `None`."""
    try:
        compile_schema(clean_json(schema))
    except InvalidSchema as error:
        return str(error)
    return None


def wrong_model(raw: Raw, name: str, known: Known) -> Iterator[str]:
    """A model outside the catalogue's list."""
    model = raw.get(name)
    if model is not None and model not in known.models:
        yield f"{name} is {model!r}, which is not in the list (ALLOWED_MODELS, MODELS_CONFIG): runs on it are refused"


OWN_RULES: dict[type[PayloadDocument], Callable[[Raw, Known], Iterator[str]]] = {
    Agent: problems_of_agent,
    Department: problems_of_department,
    CustomTool: problems_of_tool,
}


async def tally_bare_texts(database: Database) -> dict[str, Tally]:
    """Executions with a bare text where JSON belongs, by the problem."""
    collection = database[AgentExecution.get_collection_name()]
    found: dict[str, Tally] = {}
    for name in JSON_FIELDS:
        is_text = {"$expr": {"$eq": [{"$type": f"${name}"}, "string"]}}
        tally = Tally()
        async for raw in collection.find(is_text, {"executionId": 1}):
            tally.add(raw)
        if tally.count:
            found[f"{name} is a bare text: a Payload CMS cannot save the document"] = tally
    return found


def listed(raw: Raw, name: str) -> list[Any]:
    """An array of a document, empty where it is unset."""
    value = raw.get(name)
    return cast("list[Any]", value) if isinstance(value, list) else []


def is_plain_json(value: Any) -> bool:  # noqa: ANN401 - any BSON value
    """Whether a value is one that JSON holds and JavaScript reads exactly."""
    match value:
        case dict():
            return all(is_plain_json(item) for item in value.values())
        case list():
            return all(map(is_plain_json, value))
        case bool() | str() | None | datetime():
            return True
        case float():
            return math.isfinite(value)
        case int():
            return abs(value) <= MAX_INTEGER
        case _:
            return False

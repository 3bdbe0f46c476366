"""Problems in readable documents, by the rules that the service and a Payload CMS share.

Each problem is one sentence; documents are counted per problem.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from bson import ObjectId

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.kit.json_limits import MAX_INTEGER
from app.kit.json_values import JsonObject, clean_json
from app.models.agent_execution import AgentExecution
from app.models.base import PayloadDocument
from app.models.catalog.agent import Agent
from app.models.catalog.catalog_document import CatalogState
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.models.catalog.quality_weights import DEFAULT_SLUG
from app.services.catalog.loader import parsed
from app.services.catalog.seeds.files import ROW_FIELDS
from app.services.llm.model_info.model_names import KnownModels
from app.services.tools.names import MCP_FUNCTION_PREFIX, MCP_PREFIX
from app.services.tools.schema_weight import InvalidSchema
from app.services.tools.schemas import compile_schema
from app.settings import CATALOG_MODELS

MAX_NAMED = 5
KEYS = ("agentId", "slug", "toolName", "executionId")
RELATIONS = ("agent", "department", "project", "episode", "reviewedBy")
DATES = ("createdAt", "updatedAt", "startedAt", "completedAt", "lastExecutedAt", "lastUsedAt")
JSON_FIELDS = ("params", "output", "runState", "tokenUsage", "error")
WITHOUT_LARGE_FIELDS = {"events": 0, "runState": 0, "output": 0}
"""The projection that leaves out fields too large to be read here."""
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
    """The departments, tools and models that documents may refer to."""

    departments: frozenset[ObjectId]
    tools: Mapping[str, frozenset[str] | None]
    """The departments to which each tool is offered, by the tool's name; `None` for all."""
    models: KnownModels
    headed: frozenset[ObjectId] = frozenset[ObjectId]()
    """The departments with an active head."""
    mcp_servers: frozenset[str] = frozenset[str]()


@dataclass
class Tally:
    """The number of documents with a problem, and the names of the first few."""

    count: int = 0
    names: list[str] = field(default_factory=list[str])

    def add(self, raw: Raw) -> None:
        """Count a document."""
        self.count += 1
        if self.count <= MAX_NAMED:
            self.names.append(name_of(raw))

    def summary(self, problem: str) -> str:
        """Return the problem with the count and the names."""
        more = ", …" if self.count > len(self.names) else ""
        return f"{self.count} document{'' if self.count == 1 else 's'} ({', '.join(self.names)}{more}): {problem}"


async def load_known(database: Database, models: KnownModels, mcp_servers: frozenset[str]) -> Known:
    """Load the departments and tools that documents may refer to."""
    departments = await collection_of(database, Department).find({}, {"_id": 1}).to_list()
    heads = await collection_of(database, Agent).find({"isDepartmentHead": True}).to_list()
    active = [head for raw in heads if (head := parsed(Agent, raw)) and head.state is CatalogState.ACTIVE]
    fields = {"toolName": 1, "isGlobal": 1, "departments": 1}
    tools = await collection_of(database, CustomTool).find({}, fields).to_list()
    offers = {
        str(tool.get("toolName")): None
        if tool.get("isGlobal") is True
        else frozenset(map(str, listed(tool, "departments")))
        for tool in tools
    }
    headed = frozenset(ObjectId(head.department) for head in active if head.department)
    return Known(frozenset(one["_id"] for one in departments), offers, models, headed, mcp_servers)


def name_of(raw: Raw) -> str:
    """Return the natural key of a document, or else its id."""
    return next((str(raw[key]) for key in KEYS if raw.get(key)), str(raw["_id"]))


def problems_of(document: type[PayloadDocument], raw: Raw, known: Known) -> Iterator[str]:
    """Yield the problems of a readable document, apart from the fields that were left out."""
    yield from wrong_types(raw)
    yield from wrong_numbers(raw)
    yield from wrong_json(raw)
    if document in OWN_RULES:
        yield from OWN_RULES[document](raw, known)


def wrong_types(raw: Raw) -> Iterator[str]:
    """Yield ids and relations that are not ObjectIds, and dates that are not dates."""
    if not isinstance(raw["_id"], ObjectId):
        yield "_id is not an ObjectId: a Payload CMS lists the document but cannot open it"
    for name in RELATIONS:
        if isinstance(raw.get(name), str):
            yield f"{name} is stored as text, not as an ObjectId: searches for it do not find the document"
    if any(isinstance(one, str) for one in listed(raw, "departments")):
        yield "departments holds text instead of ObjectIds: searches for a department do not find the document"
    for name in DATES:
        if isinstance(raw.get(name), str | int | float):
            yield f"{name} is not a date: the document is sorted wrongly"


def wrong_numbers(raw: Raw) -> Iterator[str]:
    """Yield numbers that are out of bounds."""
    for name, (low, high) in BOUNDS.items():
        value = raw.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            yield f"{name} is not from {low} to {high}: a Payload CMS cannot save the document"


def wrong_json(raw: Raw) -> Iterator[str]:
    """Yield JSON that JavaScript cannot represent, and rows that Payload cannot tell apart."""
    for name in (*JSON_FIELDS, "inputSchema", "exampleInputs"):
        if name not in WITHOUT_LARGE_FIELDS and not is_plain_json(raw.get(name)):
            yield f"{name} holds a value that JSON cannot represent, or an integer beyond 2^53"
    for name, key in ROW_FIELDS.items():
        rows = listed(raw, name)
        if not all(isinstance(row.get("id"), str) and ROW_ID.fullmatch(row["id"]) for row in rows):
            yield f"{name} has a row without an id of 24 hexadecimal digits"
        if not all(row.get(key) not in (None, "", 0, False) for row in rows):
            yield f"{name} has a row without {key}: a Payload CMS cannot save the document"


def problems_of_agent(raw: Raw, known: Known) -> Iterator[str]:
    """Yield problems that keep an agent from running, and tools that it is not granted."""
    department = raw.get("department")
    if department is None:
        yield "department is unset: runs are refused (409)"
    elif ObjectId(department) not in known.departments:
        yield "the department no longer exists: runs are refused (409)"
    yield from wrong_model(raw, "model", known)
    names = {str(row.get("toolName")) for row in listed(raw, "toolNames")}
    for name in sorted(names):
        if name.startswith(MCP_PREFIX):
            if (server := name.removeprefix(MCP_PREFIX).partition("/")[0]) not in known.mcp_servers:
                yield f"toolNames has {name!r}, but MCP_SERVERS has no server {server!r}: it is not granted"
            continue
        offers = known.tools.get(name, frozenset())
        if name not in known.tools:
            yield f"toolNames has {name!r}, which does not exist: it is not granted"
        elif offers is not None and department in known.departments and str(department) not in offers:
            yield f"toolNames has {name!r}, which is not offered to the agent's department: it is not granted"


def problems_of_department(raw: Raw, known: Known) -> Iterator[str]:
    """Yield the problems of a department."""
    if raw.get("slug") == DEFAULT_SLUG:
        yield f"slug is {DEFAULT_SLUG!r}, which names the quality weights of departments that have none"
    yield from wrong_model(raw, "defaultModel", known)
    if raw.get("isActive") is not False and not raw.get("deletedAt") and raw["_id"] not in known.headed:
        yield "the department has no active head: its runs are refused (409)"


def notes_of(raw: Raw, known: Known) -> Iterator[str]:
    """Yield the models that the service can call and a Payload CMS with the usual options would refuse."""
    for name in ("model", "defaultModel"):
        model = raw.get(name)
        if model in known.models and model not in CATALOG_MODELS:
            yield f"{name} is {model!r}: a Payload CMS cannot save the document unless its options list that model"


def problems_of_tool(raw: Raw, known: Known) -> Iterator[str]:
    """Yield the problems of a custom tool."""
    if str(raw.get("toolName")).startswith((MCP_PREFIX, MCP_FUNCTION_PREFIX)):
        yield f"toolName begins with {MCP_PREFIX!r} or {MCP_FUNCTION_PREFIX!r}, as MCP tools do: it is not granted"
    if raw.get("inputSchema") is None:
        yield "inputSchema is unset: a Payload CMS cannot save the document"
    elif problem := problem_with_schema(raw["inputSchema"]):
        yield f"inputSchema is invalid, so no run is offered the tool: {problem}"
    if any(ObjectId(one) not in known.departments for one in listed(raw, "departments")):
        yield "departments names a department that no longer exists"


def problem_with_schema(schema: JsonObject) -> str | None:
    """Return why an input schema cannot be compiled, or `None` if it can."""
    try:
        compile_schema(clean_json(schema))
    except InvalidSchema as error:
        return str(error)
    return None


def wrong_model(raw: Raw, name: str, known: Known) -> Iterator[str]:
    """Yield a model that is not in the list of models."""
    model = raw.get(name)
    if model is not None and model not in known.models:
        yield f"{name} is {model!r}, which is not in the list (ALLOWED_MODELS, MODELS_CONFIG): runs on it are refused"


OWN_RULES: dict[type[PayloadDocument], Callable[[Raw, Known], Iterator[str]]] = {
    Agent: problems_of_agent,
    Department: problems_of_department,
    CustomTool: problems_of_tool,
}


async def tally_bare_texts(database: Database) -> dict[str, Tally]:
    """Count the executions that hold bare text where JSON belongs, by problem."""
    collection = collection_of(database, AgentExecution)
    found: dict[str, Tally] = {}
    for name in JSON_FIELDS:
        is_text = {"$expr": {"$eq": [{"$type": f"${name}"}, "string"]}}
        tally = Tally()
        async for raw in collection.find(is_text, {"executionId": 1}):
            tally.add(raw)
        if tally.count:
            found[f"{name} is bare text: a Payload CMS cannot save the document"] = tally
    return found


def listed(raw: Raw, name: str) -> list[Any]:
    """Return an array of a document, empty if it is unset."""
    value = raw.get(name)
    return cast("list[Any]", value) if isinstance(value, list) else []


def is_plain_json(value: Any) -> bool:  # noqa: ANN401 - any BSON value
    """Return whether JSON can represent a value and JavaScript reads it exactly."""
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

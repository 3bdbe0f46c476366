"""Catalog entries of built-in tools, so that they are listed, granted and counted like custom tools.

Each start writes the fields that the code defines. The departments of a tool and whether it is active belong to the
catalog.
"""

from collections.abc import Mapping

import structlog
from pymongo.errors import DuplicateKeyError

from app.database.collections import collection_of
from app.database.connection import Database
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.custom_tool import CustomTool, ToolSource
from app.services.tools.builtin import BuiltinTool

log = structlog.get_logger(__name__)


async def store_builtin_tools(database: Database, tools: Mapping[str, BuiltinTool]) -> None:
    """Insert missing entries and update the others. A custom tool of the same name stays unchanged."""
    collection = collection_of(database, CustomTool)
    for tool in tools.values():
        fields = entry_fields(tool)
        raw = await collection.find_one({"toolName": tool.name})
        if raw is None:
            new = CustomTool.model_validate({"toolName": tool.name, "isGlobal": True, **fields})
            try:
                await collection.insert_one(new.as_stored())
            except DuplicateKeyError:
                log.info("builtin-tool-stored-elsewhere", tool=tool.name)
        elif raw.get("source") != ToolSource.BUILTIN:
            log.warning("builtin-tool-hidden", tool=tool.name, reason="a custom tool has the same name")
        elif any(raw.get(name) != value for name, value in fields.items()):
            await collection.update_one({"_id": raw["_id"]}, {"$set": {**fields, "updatedAt": utc_now()}})


def entry_fields(tool: BuiltinTool) -> JsonObject:
    """Return the fields of an entry that the code defines."""
    return {
        "displayName": tool.display_name,
        "description": tool.description,
        "inputSchema": tool.input_schema,
        "executeFunction": f"// Python: {tool.address}",
        "version": tool.version,
        "idempotent": tool.idempotent,
        "source": ToolSource.BUILTIN.value,
    }

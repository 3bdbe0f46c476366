"""Catalog entries of built-in tools, so that they are listed, granted and counted like custom tools.

Each start writes the fields that the code defines. The departments of a tool and whether it is active belong to the
catalog.
"""

from collections.abc import Mapping

import structlog

from app.database.audit_marks import SERVICE, add_audit_marks
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.transactions import Session, in_transaction
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.catalog.custom_tool import CustomTool, ToolSource
from app.services.catalog.seeds.insertion import insert_recorded
from app.services.catalog.writer import change_mark
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
            if not await insert_recorded(database, CustomTool, [new.as_stored()], SERVICE):
                log.info("builtin-tool-stored-elsewhere", tool=tool.name)
        elif raw.get("source") != ToolSource.BUILTIN:
            log.warning("builtin-tool-hidden", tool=tool.name, reason="a custom tool has the same name")
        elif any(raw.get(name) != value for name, value in fields.items()):
            await update_recorded(database, raw, fields)


async def update_recorded(database: Database, raw: Raw, fields: JsonObject) -> None:
    """Write the fields of a stored entry together with their audit mark."""

    async def update(session: Session) -> None:
        changes = {"$set": {**fields, "updatedAt": utc_now()}}
        await collection_of(database, CustomTool).update_one({"_id": raw["_id"]}, changes, session=session)
        mark = change_mark(CustomTool, raw, raw | fields, SERVICE)
        await add_audit_marks(database, [mark], session)

    await in_transaction(database, update)


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

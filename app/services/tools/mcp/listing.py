"""The tools that an MCP server lists, bounded for models, and their changes."""

import hashlib
import json
import re
from dataclasses import asdict
from typing import Any, cast

import structlog
from mcp.client import Client
from mcp_types import Tool

from app.services.tools.mcp.settings import McpServerSettings
from app.services.tools.mcp.tools import McpTool
from app.services.tools.names import MCP_PREFIX, MCP_TOOL_NAME

MAX_PAGES = 100
MAX_TOOLS = 1000
MAX_DESCRIPTION_CHARACTERS = 4000
MAX_SCHEMA_TEXT_CHARACTERS = 1000
MAX_SCHEMA_CHARACTERS = 64 * 1024
MAX_SCHEMA_DEPTH = 64
PROSE = frozenset({"description", "title", "$comment"})
CUT = " … (cut)"
TOOL_NAME = re.compile(MCP_TOOL_NAME)

log = structlog.get_logger(__name__)


async def list_tools(client: Client) -> list[Tool]:
    """All tools that a server lists, page by page."""
    found: list[Tool] = []
    cursors: set[str] = set()
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return found
        if cursor in cursors or len(cursors) >= MAX_PAGES or len(found) > MAX_TOOLS:
            log.warning(
                "mcp-tool-list-truncated", tools=len(found), reason="too many pages or tools, or a repeated cursor"
            )
            return found[:MAX_TOOLS]
        cursors.add(cursor)


def usable_tools(
    server: str, settings: McpServerSettings, listed: list[Tool]
) -> tuple[dict[str, McpTool], dict[str, str]]:
    """Return the tools that can be granted, by the server's names, and the reason why each other one cannot."""
    found: dict[str, McpTool] = {}
    unusable: dict[str, str] = {}
    for tool in listed:
        if not settings.allows(tool.name):
            continue
        if not TOOL_NAME.fullmatch(f"{MCP_PREFIX}{server}/{tool.name}"):
            unusable[tool.name[:200]] = "its name cannot be granted"
        elif (usable := described(server, tool)) is None:
            unusable[tool.name] = "its input schema is too large"
        else:
            found[tool.name] = usable
    for pattern in settings.allowed_tools or ():
        if "*" not in pattern and pattern not in found:
            unusable.setdefault(pattern, "allowedTools names it, but the server does not list it")
    return found, unusable


def described(server: str, tool: Tool) -> McpTool | None:
    """Return a tool for use in runs; `None` if its schema is too large. A read-only tool is idempotent too."""
    schema = fitting_schema(tool.input_schema)
    if schema is None:
        return None
    hints = tool.annotations
    return McpTool(
        name=f"{MCP_PREFIX}{server}/{tool.name}",
        description=shortened(tool.description or tool.title or tool.name, MAX_DESCRIPTION_CHARACTERS),
        input_schema=schema,
        idempotent=bool(hints and (hints.idempotent_hint or hints.read_only_hint)),
        output_schema=tool.output_schema,
    )


def fitting_schema(schema: object) -> dict[str, Any] | None:
    """Return a server's input schema as an object with shortened texts; `None` if it is still too large."""
    try:
        found = with_short_prose(schema if isinstance(schema, dict) else {}, MAX_SCHEMA_DEPTH)
        fits = len(json.dumps(found)) <= MAX_SCHEMA_CHARACTERS
    except (TypeError, ValueError, RecursionError):
        return None
    return {"type": "object"} | cast("dict[str, Any]", found) if fits else None


def with_short_prose(node: Any, depth: int) -> Any:  # noqa: ANN401 - any JSON value
    """Return a schema with its descriptions cut to a length.

    Raises:
        ValueError: the schema is nested too deeply.
    """
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(node, dict):
        return {
            key: shortened(value, MAX_SCHEMA_TEXT_CHARACTERS)
            if key in PROSE and isinstance(value, str)
            else with_short_prose(value, depth - 1)
            for key, value in cast("dict[str, Any]", node).items()
        }
    return [with_short_prose(item, depth - 1) for item in cast("list[Any]", node)] if isinstance(node, list) else node


def shortened(text: str, limit: int) -> str:
    """Return a text cut to a length, with a mark at the end."""
    return text if len(text) <= limit else text[: limit - len(CUT)] + CUT


def log_changes(server: str, before: dict[str, McpTool], after: dict[str, McpTool]) -> None:
    """Log every tool that is new, removed, or described differently."""
    if not before:
        return
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            log.info("mcp-tool-added" if old is None else "mcp-tool-removed", server=server, tool=name)
        elif old != new:
            was, now = asdict(old), asdict(new)
            changed = [key for key in was if was[key] != now[key]]
            log.warning(
                "mcp-tool-changed",
                server=server,
                tool=name,
                changed=changed,
                before=digest_of(was),
                after=digest_of(now),
            )


def digest_of(tool: dict[str, Any]) -> str:
    """Return a short digest of a server's description of a tool."""
    return hashlib.sha256(json.dumps(tool, sort_keys=True).encode()).hexdigest()[:12]

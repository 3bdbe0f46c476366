"""The names of tools as they are granted, and as models receive them."""

import hashlib
import re

MCP_PREFIX = "mcp:"
MCP_FUNCTION_PREFIX = "mcp__"
"""The prefix of MCP tools' names for models; a stored tool with this prefix is never offered."""
MCP_TOOL_NAME = r"mcp:[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_./-]{1,128}"
FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NOT_IN_A_FUNCTION_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_KEPT_CHARACTERS = 55


def function_name(tool_name: str) -> str:
    """Return the name of a tool for models: at most 64 letters, digits, `_` and `-`, always the same.

    `mcp:server/tool` is `mcp__server__tool`; a name that loses other characters ends with a digest of the original.
    """
    if FUNCTION_NAME.fullmatch(tool_name):
        return tool_name
    marked = tool_name.replace(MCP_PREFIX, MCP_FUNCTION_PREFIX, 1).replace("/", "__", 1)
    if tool_name.startswith(MCP_PREFIX) and FUNCTION_NAME.fullmatch(marked):
        return marked
    digest = hashlib.sha256(tool_name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{NOT_IN_A_FUNCTION_NAME.sub('_', marked)[:MAX_KEPT_CHARACTERS]}_{digest}"

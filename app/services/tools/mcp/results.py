"""Results of MCP tool calls: content of every kind as text, with structured content beside it."""

import asyncio
import json
from functools import lru_cache
from typing import Any

import structlog
from jsonschema_rs import FancyRegexOptions, ValidationError, Validator, validator_for
from mcp_types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)
from pydantic import JsonValue

from app.services.tools.outcomes import ToolFailed, checked_output
from app.services.tools.schema_weight import MAX_BACKTRACKS, InvalidSchema, weigh_schema

MAX_MESSAGE_CHARACTERS = 2000
WRAPPED = "result"
"""The key under which SDKs put a result that is not an object, because structured content had to be one."""

log = structlog.get_logger(__name__)


async def output_of(name: str, result: CallToolResult, output_schema: dict[str, Any] | None) -> JsonValue:
    """Return the output of a call: text, structured content, or both if the text adds to the structured content.

    Structured content that does not match the tool's output schema is left out, as long as there is text.

    Raises:
        ToolFailed: the tool reports an error, or its output is invalid or too large.
    """
    texts = [text_of(block) for block in result.content]
    text = "\n".join(texts)
    structured = result.structured_content
    if result.is_error:
        words = text or ("" if structured is None else json.dumps(structured))
        raise ToolFailed(
            "tool-error", words[:MAX_MESSAGE_CHARACTERS] or "The tool reported an error without a message."
        )
    if structured is None:
        return checked_output(text)
    output = checked_output(structured)
    if output_schema is not None and not await asyncio.to_thread(matches, json.dumps(output_schema), output):
        log.warning("mcp-output-schema-mismatch", tool=name)
        if not text:
            raise ToolFailed("tool-result-invalid", "The tool's result does not match its own output schema.")
        return checked_output(text)
    return output if repeats(texts, output) else checked_output({"text": text, "structuredContent": output})


def text_of(block: ContentBlock) -> str:
    """Return a content block as text; other content is described by its type and size."""
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ImageContent | AudioContent):
        return f"[{block.type}: {block.mime_type}, {size_of(block.data)} bytes, not shown]"
    if isinstance(block, EmbeddedResource):
        resource = block.resource
        if isinstance(resource, TextResourceContents):
            return f"[resource {resource.uri}]\n{resource.text}"
        kind = resource.mime_type or "application/octet-stream"
        return f"[resource {resource.uri}: {kind}, {size_of(resource.blob)} bytes, not shown]"
    details = [block.title or block.name, block.mime_type, block.description]
    return f"[resource link {block.uri}: {', '.join(item for item in details if item)}]"


def size_of(base64_text: str) -> int:
    """Return the number of bytes that a base64 text encodes."""
    return len(base64_text.rstrip("=\r\n")) * 3 // 4


def repeats(texts: list[str], structured: JsonValue) -> bool:
    """Return whether the text only repeats the structured content, for clients that do not read the latter."""
    if not any(texts):
        return True
    values = [structured]
    if isinstance(structured, dict) and structured.keys() == {WRAPPED}:
        values.append(structured[WRAPPED])
    for value in values:
        if says("\n".join(texts), value):
            return True
        if isinstance(value, list) and len(value) == len(texts) and all(map(says, texts, value)):
            return True
    return False


def says(text: str, value: JsonValue) -> bool:
    """Return whether a text is a value: as it is, or as JSON."""
    if text == value:
        return True
    try:
        return json.loads(text) == value
    except (ValueError, RecursionError):
        return False


def matches(schema: str, output: JsonValue) -> bool:
    """Return whether a schema allows an output; an unusable schema allows any. Slow: call it in a thread."""
    validator = output_validator(schema)
    return validator is None or validator.is_valid(output)


@lru_cache(maxsize=256)
def output_validator(schema: str) -> Validator | None:
    """Return the compiled schema; external references are not fetched."""
    options = FancyRegexOptions(backtrack_limit=MAX_BACKTRACKS)
    found: dict[str, Any] = json.loads(schema)
    try:
        weigh_schema(found)
        return validator_for(found, offline=True, pattern_options=options)
    except (InvalidSchema, ValidationError, ValueError):
        return None

"""Messages whose text is a list of parts, and chunks that carry nothing but a provider's data: LiteLLM takes neither.

It fails on a list where it expects a text, keeps only the last part of Mistral's, and drops chunks without text.
"""

import json
import re
from functools import wraps
from typing import Any

import httpx

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import ChatStreamHandler, StreamWrapper

LIST_CONTENT = re.compile(rb'"content"\s*:\s*\[')
KEPT_FIELDS = ("extra_content", "reasoning_details", "thinking_blocks")
"""Fields of a delta for which a chunk is kept."""


def flatten_content(message: JsonObject) -> None:
    """Make a text of a message's parts, and reasoning of those that are thinking."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return
    found = [part for part in parts if isinstance(part, dict)]
    message["content"] = "".join(text_of(part) for part in found if part.get("type") != "thinking")
    if reasoning := "".join(text_of(part) for part in found if part.get("type") == "thinking"):
        message["reasoning_content"] = reasoning


def text_of(part: JsonObject) -> str:
    """The text of a part; thinking may be a list of parts itself."""
    inner = part.get("thinking")
    if isinstance(inner, list):
        return "".join(text_of(one) for one in inner if isinstance(one, dict))
    return str(inner or part.get("text") or "")


def with_text_content(answer: httpx.Response) -> httpx.Response:
    """A chat completion whose messages have a text each, whatever the server made of it."""
    if b'"choices"' not in answer.content or not LIST_CONTENT.search(answer.content):
        return answer
    try:
        body = answer.json()
        for choice in body["choices"]:
            flatten_content(choice.get("message") or {})
    except (ValueError, LookupError, TypeError, AttributeError):
        return answer  # no completion, as LiteLLM will find
    dropped = ("content-length", "content-encoding", "transfer-encoding")
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in dropped]
    content = json.dumps(body).encode()
    return httpx.Response(answer.status_code, headers=headers, content=content, request=answer.request)


def keep_provider_data() -> None:
    """Have LiteLLM's streams take such chunks, from now on."""
    if getattr(ChatStreamHandler.chunk_parser, "__wrapped__", None) is not None:
        return
    parse, is_non_empty = ChatStreamHandler.chunk_parser, StreamWrapper.is_chunk_non_empty

    @wraps(parse)
    def parse_parts(self: Any, chunk: JsonObject) -> Any:  # noqa: ANN401 - LiteLLM's
        for choice in chunk.get("choices") or []:
            flatten_content(choice.get("delta") or {})
        return parse(self, chunk)

    @wraps(is_non_empty)
    def has_data(self: Any, completion_obj: JsonObject, model_response: Any, response_obj: Any) -> bool:  # noqa: ANN401 - LiteLLM's
        delta = model_response.choices[0].delta
        kept = any(getattr(delta, name, None) for name in KEPT_FIELDS)
        return kept or is_non_empty(self, completion_obj, model_response, response_obj)

    ChatStreamHandler.chunk_parser = parse_parts
    StreamWrapper.is_chunk_non_empty = has_data

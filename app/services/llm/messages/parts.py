"""Message content given as a list of parts, flattened to text.

LiteLLM fails on a list where it expects a text, and keeps only the last of Mistral's parts.
"""

import json
import re

import httpx

from app.kit.json_values import JsonObject

LIST_CONTENT = re.compile(rb'"content"\s*:\s*\[')


def flatten_content(message: JsonObject) -> None:
    """Join a message's parts into its `content`, and the parts of type `thinking` into its `reasoning_content`."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return
    objects = [part for part in parts if isinstance(part, dict)]
    message["content"] = "".join(text_of(part) for part in objects if part.get("type") != "thinking")
    if reasoning := "".join(text_of(part) for part in objects if part.get("type") == "thinking"):
        message["reasoning_content"] = reasoning


def text_of(part: JsonObject) -> str:
    """Return the text of a part; the content of a `thinking` part can itself be a list of parts."""
    inner = part.get("thinking")
    if isinstance(inner, list):
        return "".join(text_of(item) for item in inner if isinstance(item, dict))
    return str(inner or part.get("text") or "")


def with_text_content(answer: httpx.Response) -> httpx.Response:
    """Return a chat completion with the content of each message flattened to text."""
    if b'"choices"' not in answer.content or not LIST_CONTENT.search(answer.content):
        return answer
    try:
        body = answer.json()
        for choice in body["choices"]:
            flatten_content(choice.get("message") or {})
    except (ValueError, LookupError, TypeError, AttributeError):
        return answer  # not a completion: LiteLLM reports it
    dropped = ("content-length", "content-encoding", "transfer-encoding")
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in dropped]
    content = json.dumps(body).encode()
    return httpx.Response(answer.status_code, headers=headers, content=content, request=answer.request)

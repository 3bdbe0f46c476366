"""LiteLLM's stream parser, made to accept content in parts and to keep chunks that carry only provider fields."""

from functools import wraps
from typing import Any

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import ChatStreamHandler, StreamWrapper
from app.services.llm.messages.parts import flatten_content

KEPT_FIELDS = ("extra_content", "reasoning_details", "thinking_blocks")
"""Provider fields of a delta; LiteLLM would drop a chunk that has nothing else."""


def patch_streams() -> None:
    """Install the patch; installing it again changes nothing."""
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
        is_kept = any(getattr(delta, name, None) for name in KEPT_FIELDS)
        return is_kept or is_non_empty(self, completion_obj, model_response, response_obj)

    ChatStreamHandler.chunk_parser = parse_parts
    StreamWrapper.is_chunk_non_empty = has_data

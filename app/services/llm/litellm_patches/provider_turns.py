"""Turns of Gemini and Claude that LiteLLM changes: equal calls, and thinking that arrives out of order."""

from dataclasses import dataclass
from functools import wraps
from typing import Any

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import ClaudeStreamHandler, gemini_turns

THINKING_PIECES = ("thinking_delta", "signature_delta")


def patch_provider_turns() -> None:
    """Install the patches; installing them again changes nothing."""
    keep_equal_calls()
    check_thinking_order()


def keep_equal_calls() -> None:
    """Send Gemini every call of a turn: it refuses a turn that has fewer calls than the next one has results."""
    gemini_turns.check_if_part_exists_in_parts = is_never_present


def is_never_present(*_: object, **__: object) -> bool:
    """Replace LiteLLM's search for an equal part among those of the same turn."""
    return False


@dataclass
class ThinkingOrder:
    """Position in a stream from Claude: the index of the open thinking block, and whether it is signed."""

    index: object = None
    is_signed: bool = False

    def take(self, event: JsonObject) -> None:
        """Take the next event.

        Raises:
            ValueError: a piece of a thinking block came before its start, or after its signature or end, or another
                block's piece came in between.
        """
        kind, index, delta = event.get("type"), event.get("index"), event.get("delta") or {}
        if kind == "content_block_start":
            self.is_signed = False
            self.index = index if event["content_block"]["type"] == "thinking" else None
        elif kind == "content_block_stop" and index == self.index:
            self.index, self.is_signed = None, False
        elif delta:
            piece = delta.get("type")
            if self.is_signed or (index != self.index and (self.index is not None or piece in THINKING_PIECES)):
                raise ValueError("The pieces of a thinking block came out of order.")
            self.is_signed = piece == "signature_delta"


def check_thinking_order() -> None:
    """Fail a stream whose thinking is out of order, because the text would not fit its signature."""
    if getattr(ClaudeStreamHandler.chunk_parser, "__wrapped__", None) is not None:
        return
    parse = ClaudeStreamHandler.chunk_parser

    @wraps(parse)
    def parse_in_order(self: Any, chunk: JsonObject) -> Any:  # noqa: ANN401 - LiteLLM's
        vars(self).setdefault("thinking_order", ThinkingOrder()).take(chunk)
        return parse(self, chunk)

    ClaudeStreamHandler.chunk_parser = parse_in_order

"""Token estimates that are fast enough for the event loop and seldom too low.

A tokenizer takes half a second per megabyte, and providers count differently anyway. The provider's own count
of earlier messages corrects the estimate of the rest.
"""

import json
import re
from dataclasses import dataclass, field

from app.kit.json_values import JsonObject

PIECES = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,2}|[^\sA-Za-z0-9]|\n+")
"""Text that is at least one token: part of a word, two digits, a punctuation mark, a non-Latin character."""
BYTES_A_TOKEN = 4
MESSAGE_TOKENS = 10
SAMPLED_CHARACTERS = 65_536
SAMPLES = 32
SAMPLE_CHARACTERS = 1_024
MIN_KEPT_CHARACTERS = 256
SHORT_CHARACTERS = 32
UNCOUNTED = ("role", "origin", "content_parts")
"""Fields of a message that are not sent, or that repeat other fields."""


@dataclass
class TokenEstimate:
    """Cached estimates of texts that are sent repeatedly."""

    _known: dict[str, int] = field(default_factory=dict[str, int])

    def of_message(self, message: JsonObject, *, keep: bool = False) -> int:
        """Return the tokens of a chat message with all its fields."""
        return MESSAGE_TOKENS + sum(
            self._of(value, keep=keep) for name, value in message.items() if name not in UNCOUNTED
        )

    def of_value(self, value: object) -> int:
        """Return the tokens of a JSON value."""
        return estimated_tokens(json.dumps(value, ensure_ascii=False)) if value else 0

    def _of(self, value: object, *, keep: bool) -> int:
        if isinstance(value, str):
            return self._of_text(value) if keep and len(value) >= MIN_KEPT_CHARACTERS else estimated_tokens(value)
        if isinstance(value, dict):
            return 2 + sum(self._of(item, keep=keep) for item in value.values())
        return sum(self._of(item, keep=keep) for item in value) if isinstance(value, list) else 1

    def _of_text(self, text: str) -> int:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = estimated_tokens(text)
        return known


def characters_in(value: object) -> int:
    """Return the length of all texts in a JSON value, which is an upper bound of its tokens except in rare scripts."""
    if isinstance(value, str):
        return len(value) + 1
    if isinstance(value, dict):
        return 2 + sum(map(characters_in, value)) + sum(map(characters_in, value.values()))
    return 2 + sum(map(characters_in, value)) if isinstance(value, list) else 4


def estimated_tokens(text: str) -> int:
    """Return the approximate number of tokens of a text; a very long text is sampled."""
    if len(text) < SHORT_CHARACTERS:
        return len(text) // 2 + 1
    least = len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN + 1
    if len(text) <= SAMPLED_CHARACTERS:
        return max(len(PIECES.findall(text)), least)
    step = len(text) // SAMPLES
    samples = "".join(text[start : start + SAMPLE_CHARACTERS] for start in range(0, step * SAMPLES, step))
    return max(len(PIECES.findall(samples)) * len(text) // len(samples), least)

"""What a run's events say of how its last model call was kept within the model's context."""

from dataclasses import dataclass

from app.kit.json_values import JsonObject


@dataclass(frozen=True, slots=True)
class ContextMark:
    """Where a conversation stands: what the call before left out, and what the provider counted of the rest.

    `messages` is how many of the conversation's messages that call had to send, `tokens` the provider's count of those
    that it did. `context_tokens` is the size that it was fitted to.
    """

    left_out: int = 0
    messages: int = 0
    tokens: int | None = None
    context_tokens: int | None = None
    is_squeezed: bool = False

    @classmethod
    def after(cls, event: JsonObject, messages: int) -> "ContextMark":
        """The mark after the event of a model's turn, before which there were so many messages."""
        omitted: JsonObject = event.get("omitted") or {}
        tokens = (event.get("usage") or {}).get("input") or None
        return cls(
            left_out=omitted.get("turns", 0),
            messages=messages,
            tokens=tokens,
            context_tokens=omitted.get("contextTokens"),
            is_squeezed="toolResultBytes" in omitted,
        )


NO_MARK = ContextMark()

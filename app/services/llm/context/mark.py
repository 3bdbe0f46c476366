"""The mark in a run's events that says how its last model call was fitted to the model's context."""

from dataclasses import dataclass

from app.kit.json_values import JsonObject


@dataclass(frozen=True, slots=True)
class ContextMark:
    """The omissions of a conversation's previous call, and the provider's token count of the rest.

    `messages` is the number of messages in the conversation at that call, `tokens` the provider's count of those that
    were sent. `context_tokens` is the context that the call was fitted to.
    """

    left_out: int = 0
    messages: int = 0
    tokens: int | None = None
    context_tokens: int | None = None
    is_squeezed: bool = False

    @classmethod
    def after(cls, event: JsonObject, messages: int) -> "ContextMark":
        """Return the mark after the event of a model's turn; `messages` is the number of messages before it."""
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

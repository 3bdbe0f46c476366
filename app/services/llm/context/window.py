"""Requests kept within a model's context.

Long tool results are shortened, then the oldest turns are omitted, then the rest is shortened further: results,
answers, and material in prompts. The instructions, the task and the last turns always stay, and a tool call
is omitted together with its results. All of this depends only on the messages and the run's events, so that a
process that takes over a run sends the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from app.kit.json_values import JsonObject
from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.context.omission import droppable_turns, shortened_bytes, shortened_further
from app.services.llm.context.token_estimate import TokenEstimate, characters_in
from app.services.llm.failures.errors import ModelContextExceeded

SAFE_SHARE = 0.97
"""The share of the window that is used, because token counts are estimates until the provider has counted."""
KEPT_SHARE = 0.75
"""Turns are omitted down to this share of the window at once: omitting some with every call would invalidate the
provider's prompt cache each time."""
UNKNOWN_SHARE = 0.6
"""The share of a request that is sent again after a refusal that does not state a size."""
SURE_SHARE = 0.5
"""A request is not sent if even half of its estimate is too long."""
LEAST_BYTES = 512
NOTHING: JsonObject = {}
SURE_RATIO = 1.5
"""The maximum of tokens per character."""
NOTICE = "[Earlier turns of this conversation were left out to fit the model's context.]"
MATERIAL_PURPOSES = (RunPurpose.JUDGE, RunPurpose.REVIEW)
"""The purposes whose request is material that may be shortened, because the task is in the instructions."""


@dataclass(frozen=True)
class ContextRules:
    """Fits requests to the models' contexts. Sizes are in tokens by model name, `None` if unknown."""

    tool_result_bytes: int = 32_768
    reserve_tokens: int = 4_096
    context_tokens: Callable[[str], int | None] = lambda _: None
    answer_tokens: Callable[[str], int] = lambda _: 0


@dataclass(frozen=True)
class FittedRequest:
    """A fitted request, the record of what was omitted, and its length if it had to be estimated."""

    request: ModelRequest
    tokens: float | None
    omitted: JsonObject | None = None


@dataclass
class ContextWindow:
    """Fits the requests of one run tree; each text is counted once."""

    rules: ContextRules
    _estimate: TokenEstimate = field(default_factory=TokenEstimate)
    _shortened: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])

    def fit(self, request: ModelRequest) -> FittedRequest:
        """Return the request with as much of its messages as the model's context allows.

        Raises:
            ModelContextExceeded: the required parts exceed the model's context.
        """
        sizes = [self.rules.context_tokens(request.model), request.mark.context_tokens]
        known = [size for size in sizes if size]
        window = min(known) if known else None
        room = None if window is None else (window - self._reserve(request, window)) * SAFE_SHARE
        return self._fit(request, room, window)

    def shrink(self, request: ModelRequest, fitted: FittedRequest, error: ModelContextExceeded) -> FittedRequest:
        """Return a shorter request, after the provider refused this one as too long.

        Raises:
            ModelContextExceeded: nothing can be omitted.
        """
        limit, sent = error.limit_tokens, error.sent_tokens
        tokens = fitted.tokens or self._tokens_of(fitted.request)
        if limit is None:
            room = tokens * UNKNOWN_SHARE
        else:
            scale = tokens / sent if sent else 1.0
            room = (limit - self._reserve(request, limit)) * scale * SAFE_SHARE
            room = min(room, tokens * (SAFE_SHARE if sent else UNKNOWN_SHARE))
        learned = int(room) + self._reserve(request, int(room) * 2)
        smaller = self._fit(request, room, min(learned, limit or learned))
        if self._tokens_of(smaller.request) >= self._tokens_of(fitted.request):
            raise error
        return smaller

    def _tokens_of(self, request: ModelRequest) -> int:
        """Return the estimated length of a request."""
        return self._extra(request) + sum(map(self._estimate.of_message, request.messages))

    def _reserve(self, request: ModelRequest, window: int) -> int:
        """Return the tokens reserved for the answer, at most half of the window."""
        wanted = max(self.rules.reserve_tokens, request.max_tokens or 0, self.rules.answer_tokens(request.model))
        return min(wanted, window // 2)

    def _fit(self, request: ModelRequest, room: float | None, window: int | None) -> FittedRequest:
        messages = [bounded(message, self.rules.tool_result_bytes, self._shortened) for message in request.messages]
        if not request.mark.left_out and (room is None or is_surely_within(request, messages, room)):
            results = sum(map(is_shorter, request.messages, messages))
            omitted = {"toolResults": results} if results else None
            return FittedRequest(replace(request, messages=messages), None, omitted)
        turns = droppable_turns(messages, request.task)
        weights = self._weights(request, messages, turns)
        left_out = min(request.mark.left_out, len(turns))
        gone = {place for turn in turns[:left_out] for place in turn}
        total = self._extra(request) + sum(weight for place, weight in enumerate(weights) if place not in gone)
        if room is not None and total > room:
            while left_out < len(turns) and total > room * KEPT_SHARE:
                total -= sum(weights[place] for place in turns[left_out])
                gone.update(turns[left_out])
                left_out += 1
        places = [place for place in range(len(messages)) if place not in gone]
        kept, limits = [messages[place] for place in places], NOTHING
        originals = [request.messages[place] for place in places]
        if room is not None and total > room:
            kept, total, limits = self._squeezed(request, originals, kept, room, total)
            if window is not None and total * SURE_SHARE > window:
                raise ModelContextExceeded(too_long(request.model, total, window))
        omitted = {"turns": left_out, "messages": len(gone)} if left_out else NOTHING
        results = sum(map(is_shorter, originals, kept))
        omitted = omitted | ({"toolResults": results} if results else NOTHING) | limits
        if omitted and window is not None:
            omitted = omitted | {"contextTokens": window}
        fitted = replace(request, messages=with_notice(kept) if left_out else kept)
        return FittedRequest(fitted, total, omitted or None)

    def _weights(self, request: ModelRequest, messages: list[JsonObject], turns: list[list[int]]) -> list[float]:
        """Return the tokens of each message, from the provider's count where there is one, otherwise estimated."""
        mark = request.mark
        sizes = [self._estimate.of_message(message, keep=request.task is not None) for message in messages]
        if mark.tokens is None or mark.is_squeezed:
            return [float(size) for size in sizes]
        unsent = {place for turn in turns[: mark.left_out] for place in turn}
        counted = sum(size for place, size in enumerate(sizes[: mark.messages]) if place not in unsent)
        ratio = plausible_ratio(mark.tokens, counted + self._extra(request))
        later = max(ratio, 1.0)
        return [size * (ratio if place < mark.messages else later) for place, size in enumerate(sizes)]

    def _extra(self, request: ModelRequest) -> int:
        """Return the tokens of the tools and the response format."""
        return self._estimate.of_value(request.tools) + self._estimate.of_value(request.response_format)

    def _squeezed(
        self, request: ModelRequest, originals: list[JsonObject], kept: list[JsonObject], room: float, total: float
    ) -> tuple[list[JsonObject], float, JsonObject]:
        """Shorten messages until they fit: first tool results, then everything except instructions and the task."""
        extra = self._extra(request)
        scale = total / (extra + sum(map(self._estimate.of_message, kept)))
        limits = NOTHING
        for texts_too in (False, True):
            limit = self.rules.tool_result_bytes
            while total > room and limit > LEAST_BYTES:
                limit //= 2
                limits = {"toolResultBytes": limit} | ({"textBytes": limit} if texts_too else NOTHING)
                kept = [
                    shortened_further(message, limit, texts_too=texts_too, requests_too=is_material(request))
                    for message in originals
                ]
                total = scale * (extra + sum(map(self._estimate.of_message, kept)))
        return kept, total, limits


def bounded(message: JsonObject, limit: int, known: dict[tuple[str, int], str]) -> JsonObject:
    """Return a message with its tool result shortened to the limit; `known` holds earlier shortened results."""
    content = message.get("content")
    if message["role"] != "tool" or not isinstance(content, str) or len(content) * 4 <= limit:
        return message
    key = (content, limit)
    if key not in known:
        known[key] = shortened_bytes(content, limit)
    return {**message, "content": known[key]} if known[key] != content else message


def is_shorter(original: JsonObject, sent: JsonObject) -> bool:
    """Return whether a tool's result is not sent in full."""
    return original["role"] == "tool" and original.get("content") != sent.get("content")


def plausible_ratio(counted: int, estimated: int) -> float:
    """Return the counted tokens per estimated token; implausible counts are ignored."""
    ratio = counted / max(estimated, 1)
    return min(max(ratio, 0.5), 4.0) if ratio >= 0.3 else 1.0


def is_surely_within(request: ModelRequest, messages: list[JsonObject], room: float) -> bool:
    """Return whether a request is so short that nothing needs to be counted."""
    return characters_in([messages, request.tools, request.response_format]) * SURE_RATIO <= room


def is_material(request: ModelRequest) -> bool:
    """Return whether even the request in a prompt may be shortened."""
    return request.purpose in MATERIAL_PURPOSES


def with_notice(messages: list[JsonObject]) -> list[JsonObject]:
    """Return the messages with a note in the instructions that earlier turns are missing."""
    first = messages[0] if messages else None
    if first is None or first["role"] != "system" or not isinstance(first.get("content"), str):
        return messages
    return [{**first, "content": f"{first['content']}\n\n{NOTICE}"}, *messages[1:]]


def too_long(model: str, tokens: float, window: int) -> str:
    """Return the error for a request that cannot be sent."""
    return (
        f"The model {model!r}: the instructions, the task and the last turn alone have about {int(tokens)} tokens, "
        f"but the model accepts {window}. Use a model with a larger context, or shorten the prompt or the "
        "agent's instructions."
    )

"""The tokens of an answer, and its cost by LiteLLM's price table or by the entry's prices."""

from typing import Any

from pydantic import BaseModel

from app.kit.json_values import JsonObject
from app.services.llm.calls import NO_USAGE, TokenUsage, UsageStatus
from app.services.llm.litellm_patches.setup import hidden_params_of, litellm
from app.services.llm.model_info.model_table import ModelEntry

MAX_PLAUSIBLE_TOKENS = 100_000_000
STANDARD_TIERS = {None, "default"}
BILLED_BY_TOKENS = frozenset({"openai", "anthropic"})
"""Providers whose billed items are all known to `counts_tokens_only`."""


def usage_of(response: Any) -> TokenUsage:  # noqa: ANN401 - LiteLLM's response
    """Return the provider's count of tokens; missing or implausible counts are 0."""
    usage = getattr(response, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    return TokenUsage(
        input=plausible(getattr(usage, "prompt_tokens", 0)),
        output=plausible(getattr(usage, "completion_tokens", 0)),
        cache_read=plausible(getattr(details, "cached_tokens", 0)),
        cache_write=plausible(getattr(usage, "cache_creation_input_tokens", 0)),
    )


def reasoning_tokens_of(response: Any) -> int:  # noqa: ANN401 - LiteLLM's response
    """Return the output tokens that a model used to reason, as far as its provider says so."""
    details = getattr(getattr(response, "usage", None), "completion_tokens_details", None)
    return plausible(getattr(details, "reasoning_tokens", 0))


def usage_status_of(response: Any, counted: TokenUsage) -> UsageStatus:  # noqa: ANN401 - LiteLLM's response
    """Return how trustworthy the count of an answer is, of which `counted` was read."""
    usage = getattr(response, "usage", None)
    if usage is not None and not is_plausible(usage):
        return UsageStatus.IMPLAUSIBLE
    if counted == NO_USAGE:
        return UsageStatus.MISSING
    is_consistent = counted.cache_read + counted.cache_write <= counted.input
    is_consistent = is_consistent and reasoning_tokens_of(response) <= counted.output
    return UsageStatus.REPORTED if is_consistent else UsageStatus.INCONSISTENT


def reported_usage_of(response: Any) -> JsonObject:  # noqa: ANN401 - LiteLLM's response
    """Return an implausible count's numbers as texts, because they may be too large to store as numbers."""
    return {
        name: str(value)[:40]
        for name, value in vars(response.usage).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def plausible(count: object) -> int:
    """Return a count of tokens, or 0 if it is implausible."""
    return count if isinstance(count, int) and 0 <= count <= MAX_PLAUSIBLE_TOKENS else 0


def is_counted(response: Any) -> bool:  # noqa: ANN401 - LiteLLM's response
    """Return whether the provider counted both input and output; LiteLLM reports 0 for a missing count."""
    usage = getattr(response, "usage", None)
    return usage is not None and usage.prompt_tokens > 0 and usage.completion_tokens > 0 and is_plausible(usage)


def is_plausible(counts: BaseModel) -> bool:
    """Return whether every number of a usage, and of its details, is plausible."""
    for value in vars(counts).values():
        if isinstance(value, int | float):
            if not 0 <= value <= MAX_PLAUSIBLE_TOKENS:
                return False
        elif isinstance(value, BaseModel) and not is_plausible(value):
            return False
    return True


def cost_of(response: Any, entry: ModelEntry) -> float | None:  # noqa: ANN401 - LiteLLM's response
    """Return the cost in USD; `None` if the price or the tokens are unknown.

    The price is the entry's, not that of the model that the answer names: a name which LiteLLM does not know, and
    every streamed answer, costs 0 in the figure that it returns with the answer.
    """
    if not entry.has_price or not is_counted(response):
        return None
    if is_listed(entry) and counts_tokens_only(response):
        return cost_of_tokens(response.usage, entry)
    return float(
        litellm.completion_cost(
            completion_response=response, model=entry.priced_as, router_model_id=entry.id, custom_pricing=True
        )
    )


def is_listed(entry: ModelEntry) -> bool:
    """Return whether the price is that of LiteLLM's table and no other."""
    adjusted = litellm.cost_discount_config or litellm.cost_margin_config
    return entry.has_listed_price and entry.provider in BILLED_BY_TOKENS and not adjusted


def cost_of_tokens(usage: Any, entry: ModelEntry) -> float:  # noqa: ANN401 - LiteLLM's usage
    """Return the cost of the tokens, equal to `completion_cost`, which takes twice as long."""
    return sum(
        litellm.cost_per_token(
            model=entry.params["model"],
            custom_llm_provider=entry.provider,
            usage_object=usage,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
    )


def counts_tokens_only(response: Any) -> bool:  # noqa: ANN401 - LiteLLM's response
    """Return whether only tokens are billed: no provider search or tool, no tier, and no cost stated by the provider.

    LiteLLM's answers lack the attributes of absent values.
    """
    usage = getattr(response, "usage", None)
    choices = getattr(response, "choices", None) or []
    if usage is None or len(choices) != 1:
        return False
    message, hidden = choices[0].message, hidden_params_of(response)
    extras = (
        getattr(usage, "server_tool_use", None),
        getattr(usage, "cost", None),
        getattr(getattr(usage, "prompt_tokens_details", None), "web_search_requests", None),
        getattr(message, "annotations", None),
        getattr(message, "provider_specific_fields", None),
        hidden.get("provider_specific_fields"),
    )
    tiers = {getattr(usage, "service_tier", None), getattr(response, "service_tier", None)}
    return not any(extras) and tiers <= STANDARD_TIERS

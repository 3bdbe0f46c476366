"""Prices: LiteLLM's own sum, also where its long way there is left out."""

from typing import Any

import pytest

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import ModelResponse, Usage, litellm
from app.services.llm.model_info.model_table import ModelEntry
from app.services.llm.model_info.pricing import cost_of, counts_tokens_only, is_listed

PLAIN = {"prompt_tokens": 420, "completion_tokens": 30}
USAGES: list[JsonObject] = [
    PLAIN,
    {"prompt_tokens": 250_000, "completion_tokens": 3_000},
    {"prompt_tokens": 5_000, "completion_tokens": 30, "prompt_tokens_details": {"cached_tokens": 4_000}},
    {**PLAIN, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 200},
    {**PLAIN, "completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 700}},
]


def entry_for(model: str, info: JsonObject | None = None, **params: Any) -> ModelEntry:  # noqa: ANN401
    """An entry with LiteLLM's price for a model, unless it says one itself."""
    return ModelEntry("house/model#0", "house/model", {"model": model, **params}, info or {})


def answer_with(usage: JsonObject, provider: str = "openai", **fields: Any) -> Any:  # noqa: ANN401
    """An answer of one choice that took these tokens."""
    answer = ModelResponse(model="named-by-the-provider", **fields)
    answer.usage = Usage(total_tokens=usage["prompt_tokens"] + usage["completion_tokens"], **usage)  # pyright: ignore[reportAttributeAccessIssue]
    answer._hidden_params = {"custom_llm_provider": provider}  # pyright: ignore[reportPrivateUsage]
    return answer


def whole_way(answer: Any, entry: ModelEntry) -> float:  # noqa: ANN401
    """LiteLLM's own sum."""
    return litellm.completion_cost(
        completion_response=answer, model=entry.priced_as, router_model_id=entry.id, custom_pricing=True
    )


@pytest.mark.parametrize("usage", USAGES, ids=lambda usage: "-".join(map(str, usage.values()))[:40])
@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-4",
        "openai/gpt-4o",
        "openai/gpt-5",
        "openai/o3",
        "anthropic/claude-sonnet-4-5",
        "anthropic/claude-haiku-4-5",
    ],
)
def test_tokens_cost_what_litellm_says_that_they_cost(
    model: str, usage: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_for(model)
    answer = answer_with(usage, model.partition("/")[0])
    expected = whole_way(answer, entry)
    monkeypatch.setattr(litellm, "completion_cost", None)  # not used on the short way

    assert cost_of(answer, entry) == expected
    assert expected > 0


@pytest.mark.parametrize(
    ("usage", "fields"),
    [
        ({**PLAIN, "server_tool_use": {"web_search_requests": 2}}, {}),
        ({**PLAIN, "prompt_tokens_details": {"web_search_requests": 2}}, {}),
        ({**PLAIN, "cost": 0.5}, {}),
        (PLAIN, {"service_tier": "priority"}),
        (PLAIN, {"service_tier": "flex"}),
    ],
)
def test_charges_beside_tokens_use_litellms_own_calculation(usage: JsonObject, fields: JsonObject) -> None:
    entry = entry_for("openai/gpt-5")
    answer = answer_with(usage, **fields)

    assert not counts_tokens_only(answer)
    assert cost_of(answer, entry) == whole_way(answer, entry)


def test_an_answer_with_citations_of_a_search_uses_litellms_own_calculation() -> None:
    answer = answer_with(PLAIN)
    answer.choices[0].message.annotations = [{"type": "url_citation"}]

    assert not counts_tokens_only(answer)


def test_the_standard_tier_costs_what_no_tier_costs() -> None:
    entry = entry_for("openai/gpt-5")

    assert cost_of(answer_with(PLAIN, service_tier="default"), entry) == cost_of(answer_with(PLAIN), entry)
    assert cost_of(answer_with(PLAIN, service_tier="default"), entry) == whole_way(
        answer_with(PLAIN, service_tier="default"), entry
    )


@pytest.mark.parametrize(
    "entry",
    [
        entry_for("openai/gpt-4", input_cost_per_token=1.0, output_cost_per_token=1.0),
        entry_for("openai/gpt-4", {"input_cost_per_token": 1.0}),
        entry_for("openai/my-deployment", {"base_model": "gpt-4"}),
        entry_for("openrouter/openai/gpt-4"),
        entry_for("openai/an-unlisted-model"),
    ],
)
def test_an_entrys_own_prices_and_other_providers_use_litellms_own_calculation(entry: ModelEntry) -> None:
    assert not is_listed(entry)


def test_discounts_configured_in_litellm_count(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entry_for("openai/gpt-4")
    full = cost_of(answer_with(PLAIN), entry)

    monkeypatch.setattr(litellm, "cost_discount_config", {"openai": 0.5})

    assert full is not None
    assert cost_of(answer_with(PLAIN), entry) == pytest.approx(full / 2)

"""The worst case of a call: the counted input and the output limit, at the dearest price that can apply."""

from typing import Any

import pytest

from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.litellm_patches.setup import litellm
from app.services.llm.model_info.model_table import ModelEntry
from app.services.llm.model_info.worst_case import WorstCases, input_bound, output_limit

TEXTS = (
    "plain English words, over and over. " * 40,
    "1234567890" * 50,
    "日本語のテキスト" * 50,
    "🦊🏳️‍🌈" * 60,
    "\ud800 lone",
    "x" * 999,
)


def entry(name: str = "a", **params: Any) -> ModelEntry:  # noqa: ANN401 - any parameter of LiteLLM
    """A deployment of an unknown model."""
    return ModelEntry(f"{name}#0", name, {"model": "openai/scripted", **params}, {})


def request(text: str = "Hello.", **fields: Any) -> ModelRequest:  # noqa: ANN401 - any field
    """A request for the model `a`."""
    return ModelRequest("a", [{"role": "user", "content": text}], RunPurpose.WORK, "exec_1", **fields)


def worst(*entries: ModelEntry, sends_limit: bool = True, settings: dict[str, Any] | None = None) -> WorstCases:
    """The worst cases of some deployments."""
    return WorstCases(lambda name: [one for one in entries if one.name == name], lambda _: sends_limit, settings or {})


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-3.5-turbo", "claude-3-opus-20240229"])
def test_the_input_is_never_counted_below_a_tokenizer(text: str, model: str) -> None:
    asked = request(text)
    messages = [{"role": "user", "content": text.encode("utf-8", "replace").decode()}]

    assert input_bound(asked) >= litellm.token_counter(model=model, messages=messages)


def test_the_output_limit_is_the_entry_s_then_the_model_s_then_4096() -> None:
    assert output_limit(entry(max_tokens=100)) == 100
    assert output_limit(entry(max_completion_tokens=50, max_tokens=100)) == 50
    assert output_limit(ModelEntry("b#0", "b", {"model": "openai/gpt-4o"}, {})) == 16_384
    assert output_limit(entry()) == 4096
    assert output_limit(entry(max_tokens=100, thinking={"type": "enabled", "budget_tokens": 1000})) == 1100


def test_a_request_s_own_limit_counts_where_it_is_sent() -> None:
    count = input_bound(request())

    assert worst(entry()).of(request(max_tokens=7)).tokens == count + 7
    assert worst(entry(), sends_limit=False).of(request(max_tokens=7)).tokens == count + 4096


def test_the_dearest_deployment_and_fallback_is_priced() -> None:
    count = input_bound(request())
    cheap = entry(input_cost_per_token=1e-6, output_cost_per_token=2e-6, max_tokens=10)
    dear = entry(input_cost_per_token=3e-6, output_cost_per_token=5e-6, max_tokens=10)
    other = entry("b", input_cost_per_token=9e-6, output_cost_per_token=9e-6, max_tokens=10)

    assert worst(cheap, dear).of(request()).cost == count * 3_000_000 + 10 * 5_000_000
    fallen_back = worst(cheap, other, settings={"fallbacks": [{"a": ["b"]}]})
    assert fallen_back.of(request()).cost == (count + 10) * 9_000_000


def test_prices_of_cache_writes_and_of_long_requests_count_where_they_can_apply() -> None:
    stepped = entry(
        input_cost_per_token=1e-6,
        cache_creation_input_token_cost=2e-6,
        input_cost_per_token_above_128k_tokens=7e-6,
        input_cost_per_token_priority=99e-6,
        output_cost_per_token=0.0,
    )
    short, long = request(), request("x" * 130_000)

    assert worst(stepped).of(short).cost == input_bound(short) * 2_000_000
    assert worst(stepped).of(long).cost == input_bound(long) * 7_000_000


def test_one_unpriced_deployment_makes_the_cost_unknown() -> None:
    priced = entry(input_cost_per_token=1e-6, output_cost_per_token=2e-6)

    assert worst(priced, entry()).of(request()).cost is None
    assert worst().of(request()).cost is None

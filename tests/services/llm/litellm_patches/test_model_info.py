"""LiteLLM's knowledge about models, looked up once."""

from collections.abc import Generator

import pytest

from app.services.llm.litellm_patches.performance import model_info_from_cache
from app.services.llm.litellm_patches.setup import litellm, litellm_utils

MODEL, PROVIDER = "gpt-4", "openai"
OWN = "openai/model-of-this-test"


@pytest.fixture
def own_model() -> Generator[str]:
    """A model that is registered by a test."""
    yield OWN
    litellm.model_cost.pop(OWN, None)


def test_the_cache_has_the_same_facts_as_litellm() -> None:
    expected = litellm_utils.get_model_info_helper(model=MODEL, custom_llm_provider=PROVIDER)

    assert [model_info_from_cache(MODEL, PROVIDER) for _ in range(2)] == [expected, expected]


def test_changes_of_an_answer_stay_in_it() -> None:
    model_info_from_cache(MODEL, PROVIDER)["mode"] = "responses"

    assert model_info_from_cache(MODEL, PROVIDER)["mode"] == "chat"


def test_a_model_that_is_registered_later_is_known(own_model: str) -> None:
    with pytest.raises(litellm.exceptions.ModelNotMappedError):
        model_info_from_cache(own_model, PROVIDER)

    for mode in ("chat", "responses"):
        litellm.register_model({own_model: {"mode": mode, "litellm_provider": PROVIDER, "input_cost_per_token": 1e-6}})
        assert model_info_from_cache(own_model, PROVIDER)["mode"] == mode

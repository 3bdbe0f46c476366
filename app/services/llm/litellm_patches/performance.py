"""LiteLLM without the work and memory that the service has no use for; `LITELLM_PATCHES=off` disables all of it."""

from collections import Counter
from typing import Any

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.router import FittingRouter
from app.services.llm.litellm_patches.setup import (
    CallLogging,
    get_default_encoding,
    is_internal_call,
    litellm_main,
    litellm_utils,
)


class LazyEncoding:
    """LiteLLM's tokenizer, loaded on first use.

    LiteLLM passes its tokenizer to every call, but only counts tokens for providers that do not report them.
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the tokenizer
        return getattr(get_default_encoding(), name)


class UnpricedLogging(CallLogging):
    """LiteLLM's record of a call, without a price on internal calls: the gateway prices each answer itself."""

    def response_cost_calculator(self, *arguments: Any, **options: Any) -> float | None:  # noqa: ANN401 - LiteLLM's own
        """Return the price for LiteLLM's own records."""
        return None if is_internal_call.get() else super().response_cost_calculator(*arguments, **options)


class UncountedRouter(FittingRouter):
    """A Router that does not count tokens and requests per minute, which are read only where limits are set.

    A name with a single deployment gets it directly, without LiteLLM's nine filters.
    """

    _only: dict[str, JsonObject] | None = None

    async def async_get_available_deployment(self, model: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - LiteLLM's own
        """Return the deployment to call for a name."""
        if self._only is None:
            self._only = only_deployments(self.model_list)
        return self._only.get(model) or await super().async_get_available_deployment(model, *arguments, **options)

    async def deployment_callback_on_success(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""

    async def increment_deployment_usage_for_response(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""


def only_deployments(deployments: list[JsonObject]) -> dict[str, JsonObject]:
    """Return the deployments that are the only one of their name, without blocked ones and LiteLLM's `auto_router/`."""
    names = Counter(deployment["model_name"] for deployment in deployments)
    return {
        deployment["model_name"]: deployment
        for deployment in deployments
        if names[deployment["model_name"]] == 1
        and not deployment.get("model_info", {}).get("blocked")
        and not deployment["litellm_params"]["model"].startswith("auto_router/")
    }


def model_info_from_cache(model: str, custom_llm_provider: str) -> JsonObject:
    """Return the facts that LiteLLM has about a model, from its own cache, which a new registration clears.

    LiteLLM searches its price list for each request, in order to learn whether the model wants another API.

    Raises:
        ModelNotMappedError: LiteLLM does not know the model.
    """
    return dict(litellm_utils.cached_get_model_info_helper(model=model, custom_llm_provider=custom_llm_provider))


def patch_litellm() -> None:
    """Install the process-wide patches; installing them again changes nothing."""
    litellm_main.encoding = LazyEncoding()
    litellm_main.get_model_info_helper = model_info_from_cache
    litellm_utils.json_data = None  # a tokenizer's vocabulary, unused once LiteLLM has made a text of it
    litellm_utils.get_litellm_logging_class = lambda: UnpricedLogging

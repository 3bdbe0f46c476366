"""LiteLLM, imported once and told to stay off the network: no price list, no telemetry, no update check.

Everybody imports LiteLLM's names from here, never from LiteLLM itself: the variables must be set before the first of
its modules is loaded. Its import takes seconds and 190 MB, so only the rooms that call models reach this module.
"""

import logging
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import looks for a price list on the network
# OpenAI-wire models go through the HTTP handler that LiteLLM has for most other providers: 2.4 ms of CPU a call against
# 4.1 through OpenAI's client, which copies each request and answer field by field.
os.environ.setdefault("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "True")

import litellm as untyped_litellm
import litellm.main as litellm_main
import litellm.utils as litellm_utils
from litellm._internal_context import is_internal_call
from litellm._lazy_imports import get_default_encoding
from litellm.litellm_core_utils.litellm_logging import Logging as TypedLogging
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.llms.custom_llm import CustomLLM
from litellm.types.router import RouterRateLimitError
from litellm.types.utils import GenericStreamingChunk, ModelResponse, Usage

__all__ = [
    "BaseLLMException",
    "CustomLLM",
    "GenericStreamingChunk",
    "ModelResponse",
    "Router",
    "RouterRateLimitError",
    "UncountedRouter",
    "Usage",
    "is_internal_call",
    "litellm",
]

litellm: Any = untyped_litellm
Router: Any = litellm.Router
litellm.suppress_debug_info = True
for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
    # Its lines go past our log's form, and quote what providers say, keys and prompts with it.
    logging.getLogger(name).handlers.clear()
    logging.getLogger(name).setLevel(logging.CRITICAL)
litellm.drop_params = True  # a parameter that a provider does not know (a temperature, say) is left out of its request


class LazyEncoding:
    """LiteLLM's tokenizer, loaded when something is counted with it: 40 MB and 0.2 s.

    LiteLLM hands its tokenizer to every call, for the few answers whose tokens the provider does not count itself.
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the tokenizer has
        return getattr(get_default_encoding(), name)


Logging: Any = TypedLogging


class UnpricedLogging(Logging):
    """What LiteLLM keeps of a call, without its price where nobody logs it: the gateway prices each answer itself."""

    def response_cost_calculator(self, *arguments: Any, **options: Any) -> float | None:  # noqa: ANN401 - LiteLLM's own
        """The price for LiteLLM's own records."""
        return None if is_internal_call.get() else super().response_cost_calculator(*arguments, **options)


untyped_main: Any = litellm_main
untyped_main.encoding = LazyEncoding()
untyped_utils: Any = litellm_utils
untyped_utils.get_litellm_logging_class = lambda: UnpricedLogging


class UncountedRouter(Router):
    """A Router that keeps no count of tokens and requests a minute: nobody reads it where no limit is set."""

    async def deployment_callback_on_success(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""

    async def increment_deployment_usage_for_response(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""

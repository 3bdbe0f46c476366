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
from litellm._internal_context import is_internal_call
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


class UncountedRouter(Router):
    """A Router that keeps no count of tokens and requests a minute: nobody reads it where no limit is set."""

    async def deployment_callback_on_success(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""

    async def increment_deployment_usage_for_response(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""

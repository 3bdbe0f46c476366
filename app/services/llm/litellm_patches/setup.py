"""LiteLLM, imported once and kept off the network: no price list, no telemetry, no update check.

All other modules import LiteLLM's names from here, because the variables below must be set before LiteLLM is loaded.
Its import takes seconds and 110 MB, so only code that calls models imports this module.
"""

import logging
import os
from typing import Any

from app.kit.json_values import JsonObject

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise the import requests a price list
# Sends requests to OpenAI-compatible servers through LiteLLM's own HTTP handler: 2.4 ms of CPU a call instead of 4.1
# with OpenAI's client, which copies each request and answer field by field.
os.environ.setdefault("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "True")
# Seconds that an idle connection is kept. Servers built on uvicorn, such as vLLM, close theirs after 5 seconds, and a
# call on a connection that is closing fails. LiteLLM's default is 120.
os.environ.setdefault("AIOHTTP_KEEPALIVE_TIMEOUT", "4")

import litellm as untyped_litellm
import litellm.llms.custom_httpx.aiohttp_transport as typed_aiohttp_transport
import litellm.llms.custom_httpx.http_handler as typed_http_handlers
import litellm.llms.vertex_ai.gemini.transformation as typed_gemini_turns
import litellm.main as typed_main
import litellm.utils as typed_utils
from litellm._internal_context import is_internal_call
from litellm._lazy_imports import get_default_encoding
from litellm.exceptions import MidStreamFallbackError
from litellm.litellm_core_utils.litellm_logging import Logging as TypedLogging
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.anthropic.chat.handler import ModelResponseIterator
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport as AiohttpTransport
from litellm.llms.custom_httpx.aiohttp_transport import map_aiohttp_exceptions
from litellm.llms.custom_llm import CustomLLM
from litellm.llms.openai.chat.gpt_transformation import OpenAIChatCompletionStreamingHandler
from litellm.types.router import Deployment as RouterDeployment
from litellm.types.router import RouterRateLimitError
from litellm.types.utils import GenericStreamingChunk, ModelResponse, Usage

__all__ = [
    "LISTED_MODELS",
    "AiohttpTransport",
    "BaseLLMException",
    "CallLogging",
    "ChatStreamHandler",
    "ClaudeStreamHandler",
    "CustomLLM",
    "Deployment",
    "GenericStreamingChunk",
    "HttpHandler",
    "MidStreamFallbackError",
    "ModelResponse",
    "Router",
    "RouterRateLimitError",
    "StreamWrapper",
    "Usage",
    "aiohttp_transport",
    "gemini_turns",
    "get_default_encoding",
    "hidden_params_of",
    "http_handlers",
    "is_internal_call",
    "litellm",
    "litellm_main",
    "litellm_utils",
    "map_aiohttp_exceptions",
    "raise_masked",
    "set_hidden_params",
]

litellm: Any = untyped_litellm
LISTED_MODELS: dict[str, JsonObject] = {name: dict(row) for name, row in litellm.model_cost.items()}
"""A copy of LiteLLM's own model table, because the Router writes the `model_info` of its entries into the original."""
Router: Any = litellm.Router
Deployment: Any = RouterDeployment
CallLogging: Any = TypedLogging
ChatStreamHandler: Any = OpenAIChatCompletionStreamingHandler
ClaudeStreamHandler: Any = ModelResponseIterator
StreamWrapper: Any = CustomStreamWrapper
aiohttp_transport: Any = typed_aiohttp_transport
gemini_turns: Any = typed_gemini_turns
http_handlers: Any = typed_http_handlers
HttpHandler: Any = http_handlers.AsyncHTTPHandler
raise_masked: Any = http_handlers._raise_masked_async_error  # noqa: SLF001 - LiteLLM's handler raises its errors so
litellm_main: Any = typed_main
litellm_utils: Any = typed_utils

litellm.suppress_debug_info = True
litellm.drop_params = True  # leave out parameters that a provider does not support, such as a temperature
for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
    # These loggers bypass the service's log format and quote provider errors, with keys and prompts in them.
    logging.getLogger(name).handlers.clear()
    logging.getLogger(name).setLevel(logging.CRITICAL)


def hidden_params_of(response: Any) -> JsonObject:  # noqa: ANN401 - a LiteLLM response or stream
    """Return the fields that LiteLLM keeps with an answer: the id of the deployment, the cost, provider fields."""
    return getattr(response, "_hidden_params", None) or {}


def set_hidden_params(response: Any, params: JsonObject) -> None:  # noqa: ANN401 - a LiteLLM response
    """Add fields to those that LiteLLM keeps with an answer."""
    response._hidden_params = {**hidden_params_of(response), **params}  # noqa: SLF001 - LiteLLM has no setter

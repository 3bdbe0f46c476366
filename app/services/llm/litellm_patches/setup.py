"""LiteLLM, imported once and told to stay off the network: no price list, no telemetry, no update check.

Everybody imports LiteLLM's names from here, never from LiteLLM itself: the variables must be set before the first of
its modules is loaded. Its import takes seconds and 110 MB, so only the rooms that call models reach this module.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, Protocol

from app.kit.json_values import JsonObject

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import looks for a price list on the network
# OpenAI-wire models go through the HTTP handler that LiteLLM has for most other providers: 2.4 ms of CPU a call against
# 4.1 through OpenAI's client, which copies each request and answer field by field.
os.environ.setdefault("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "True")
# Seconds that an idle connection is kept: less than model servers keep theirs (vLLM and other ones on uvicorn: 5), so
# that no call is sent into one that closes. LiteLLM's own 120 lets such calls fail.
os.environ.setdefault("AIOHTTP_KEEPALIVE_TIMEOUT", "4")

import litellm as untyped_litellm
import litellm.llms.custom_httpx.aiohttp_transport as typed_aiohttp_transport
import litellm.llms.custom_httpx.http_handler as typed_http_handlers
import litellm.main as typed_main
import litellm.utils as litellm_utils
from litellm._internal_context import is_internal_call
from litellm._lazy_imports import get_default_encoding
from litellm.exceptions import MidStreamFallbackError
from litellm.litellm_core_utils.litellm_logging import Logging as TypedLogging
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
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
    "ChatStreamHandler",
    "CustomLLM",
    "Deployment",
    "GenericStreamingChunk",
    "HttpHandler",
    "ModelResponse",
    "PromptRouter",
    "RouterRateLimitError",
    "StreamWrapper",
    "UncountedRouter",
    "Usage",
    "aiohttp_transport",
    "http_handlers",
    "is_internal_call",
    "litellm",
    "litellm_main",
    "map_aiohttp_exceptions",
    "raise_masked",
]

litellm: Any = untyped_litellm
LISTED_MODELS: dict[str, JsonObject] = {name: dict(row) for name, row in litellm.model_cost.items()}
"""LiteLLM's own table of models: the Router writes its entries' `model_info` into the one that LiteLLM works with."""
Router: Any = litellm.Router
Deployment: Any = RouterDeployment
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


ChatStreamHandler: Any = OpenAIChatCompletionStreamingHandler
StreamWrapper: Any = CustomStreamWrapper
aiohttp_transport: Any = typed_aiohttp_transport
http_handlers: Any = typed_http_handlers
HttpHandler: Any = http_handlers.AsyncHTTPHandler
raise_masked: Any = http_handlers._raise_masked_async_error  # noqa: SLF001 - what its own handler does
litellm_main: Any = typed_main
litellm_main.encoding = LazyEncoding()
untyped_utils: Any = litellm_utils
untyped_utils.json_data = None  # a tokenizer's vocabulary, 14 MB: nobody reads it once a text has been made of it
untyped_utils.get_litellm_logging_class = lambda: UnpricedLogging


class BegunStream:
    """A stream of LiteLLM's whose first chunk is here already; to the Router it is that stream."""

    def __init__(self, stream: Any, first: Any) -> None:  # noqa: ANN401 - LiteLLM's
        self._stream = stream
        self._first = first

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)

    async def __aiter__(self) -> AsyncGenerator[Any]:
        if self._first is not None:
            yield self._first
            async for chunk in self._stream:
                yield chunk


class Fitting(Protocol):
    """Who makes calls fit the deployments that the Router chooses, by their ids, and is told what came of each."""

    def fit(self, arguments: JsonObject, deployment_id: str) -> JsonObject:
        """A call's arguments as the deployment takes them."""
        ...

    def answered(self) -> None:
        """The last of them was answered."""
        ...

    def refused(self, error: Exception) -> None:
        """The last of them failed."""
        ...


class PromptRouter(Router):
    """A Router whose streams begin in time, or fail as any call does: each deployment that is tried has as long."""

    first_byte_seconds: float | None = None
    fitting: Fitting | None = None

    def _update_kwargs_with_deployment(self, deployment: JsonObject, kwargs: JsonObject, **options: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Put what a deployment says for itself into the arguments of a call to it, and make them fit it."""
        super()._update_kwargs_with_deployment(deployment=deployment, kwargs=kwargs, **options)
        if self.fitting is not None:
            fitted = self.fitting.fit(kwargs, deployment["model_info"]["id"])
            kwargs.clear()
            kwargs.update(fitted)

    async def _acompletion(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - LiteLLM's own
        """One deployment's answer, or its stream once it has begun."""
        try:
            answer = await self._begun(*arguments, **options)
        except Exception as error:
            if self.fitting is not None:
                self.fitting.refused(error)
            raise
        if self.fitting is not None:
            self.fitting.answered()
        return answer

    async def _begun(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - LiteLLM's own
        if not options.get("stream"):
            return await super()._acompletion(*arguments, **options)
        try:
            async with asyncio.timeout(self.first_byte_seconds):
                return await super()._acompletion(*arguments, **options)
        except TimeoutError:
            raise litellm.Timeout("The stream did not begin in time.", model="", llm_provider="") from None

    async def _acompletion_streaming_iterator(
        self,
        model_response: Any,  # noqa: ANN401 - LiteLLM's stream
        *arguments: Any,  # noqa: ANN401 - LiteLLM's own
        deployment_slot: AsyncExitStack,
        **options: Any,  # noqa: ANN401 - LiteLLM's own
    ) -> Any:  # noqa: ANN401 - LiteLLM's stream
        """The stream of one deployment as the Router gives it on; it holds the deployment's slot."""
        try:
            begun = BegunStream(model_response, await anext(model_response, None))
        except BaseException as error:
            await deployment_slot.aclose()
            await model_response.aclose()
            if isinstance(error, MidStreamFallbackError) and error.original_exception is not None:
                raise error.original_exception from error
            raise
        return await super()._acompletion_streaming_iterator(
            begun, *arguments, deployment_slot=deployment_slot, **options
        )


class UncountedRouter(PromptRouter):
    """A Router that keeps no count of tokens and requests a minute: nobody reads it where no limit is set.

    A name with one deployment is given it at once; LiteLLM asks nine filters first, which have nothing to choose from.
    """

    _only: dict[str, JsonObject] | None = None

    async def async_get_available_deployment(self, model: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - LiteLLM's own
        """The deployment of a name that is called now."""
        if self._only is None:
            self._only = only_deployments(self.model_list)
        return self._only.get(model) or await super().async_get_available_deployment(model, *arguments, **options)

    async def deployment_callback_on_success(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""

    async def increment_deployment_usage_for_response(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Count nothing."""


def only_deployments(deployments: list[JsonObject]) -> dict[str, JsonObject]:
    """The deployments that are the only ones of their names, and are neither switched off nor choose for themselves."""
    names = Counter(deployment["model_name"] for deployment in deployments)
    return {
        deployment["model_name"]: deployment
        for deployment in deployments
        if names[deployment["model_name"]] == 1
        and not deployment.get("model_info", {}).get("blocked")
        and not deployment["litellm_params"]["model"].startswith("auto_router/")
    }

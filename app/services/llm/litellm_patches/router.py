"""LiteLLM's Router with requests fitted to the chosen deployment and streams that must begin in time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, Protocol

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import MidStreamFallbackError, Router, litellm


class CallFitter(Protocol):
    """Fits calls to the deployments that the Router chooses, and learns how each attempt ended."""

    def fit(self, arguments: JsonObject, deployment_id: str) -> JsonObject:
        """Return a call's arguments in the form that the deployment accepts."""
        ...

    def answered(self) -> None:
        """Record that the last attempt was answered."""
        ...

    def refused(self, error: Exception) -> None:
        """Record that the last attempt failed."""
        ...


class BegunStream:
    """A LiteLLM stream whose first chunk has already been read; the Router uses it like the stream itself."""

    def __init__(self, stream: Any, first: Any) -> None:  # noqa: ANN401 - LiteLLM's
        self._stream = stream
        self._first = first

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the stream
        return getattr(self._stream, name)

    async def __aiter__(self) -> AsyncGenerator[Any]:
        if self._first is not None:
            yield self._first
            async for chunk in self._stream:
                yield chunk


class FittingRouter(Router):
    """A Router that fits each call to its deployment, and fails over if a stream does not begin in time.

    Each deployment has `first_byte_seconds` to begin its stream.
    """

    first_byte_seconds: float | None = None
    fitter: CallFitter | None = None

    def _update_kwargs_with_deployment(self, deployment: JsonObject, kwargs: JsonObject, **options: Any) -> None:  # noqa: ANN401 - LiteLLM's own
        """Merge the parameters of a deployment into a call's arguments, and fit them to it."""
        super()._update_kwargs_with_deployment(deployment=deployment, kwargs=kwargs, **options)
        if self.fitter is not None:
            fitted = self.fitter.fit(kwargs, deployment["model_info"]["id"])
            kwargs.clear()
            kwargs.update(fitted)

    async def _acompletion(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - LiteLLM's own
        """Return one deployment's answer, or its stream once it has begun."""
        try:
            answer = await self._begun(*arguments, **options)
        except Exception as error:
            if self.fitter is not None:
                self.fitter.refused(error)
            raise
        if self.fitter is not None:
            self.fitter.answered()
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
        """Wrap one deployment's stream, which holds the deployment's slot, after reading its first chunk."""
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

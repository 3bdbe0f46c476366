"""An executor that runs LiteLLM's request preparation on the event loop's thread.

LiteLLM prepares each request in the loop's executor. For providers that need only an API key this is about a
millisecond of computation, so a thread gains nothing, and two changes of threads take a fifth of the time of a run.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from app.services.llm.litellm_patches.setup import litellm_main

KEY_PROVIDERS = frozenset({"openai", "anthropic", "openrouter"})
"""Providers that use an API key as it is. Others may request credentials from a server, which would block the loop."""
MAX_INLINE_MESSAGES = 200
"""The most messages of a request that is prepared in place; longer conversations may take several milliseconds."""


class InlineExecutor(ThreadPoolExecutor):
    """A thread pool that runs the preparation of requests in place.

    The first request to a provider is prepared in a thread, because LiteLLM then imports modules for a third of a
    second.
    """

    _warm: frozenset[str] = frozenset()
    """The providers whose modules have been imported."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any arguments
        """Run a function in a thread, or in place if it only computes.

        The future of a function that ran in place belongs to the event loop, whose `run_in_executor` passes it on as it
        is; a concurrent one would take another turn of the loop.
        """
        provider = prepared_for(fn)
        if provider not in self._warm:
            future = super().submit(fn, *args, **kwargs)
            if provider is not None:
                future.add_done_callback(lambda _: self._note(provider))
            return future
        done = asyncio.get_running_loop().create_future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - an executor passes every error on
            done.set_exception(error)
        return done

    def _note(self, provider: str) -> None:
        self._warm |= {provider}


def use_inline_executor() -> None:
    """Make this the default executor of the running event loop."""
    asyncio.get_running_loop().set_default_executor(InlineExecutor(thread_name_prefix="asyncio"))


def prepared_for(fn: Callable[..., Any]) -> str | None:
    """Return the provider if this is LiteLLM preparing a request that needs no more than computation.

    LiteLLM submits `partial(context.run, partial(completion, …))`.
    """
    call = fn.args[0] if isinstance(fn, partial) and fn.args else None
    if not isinstance(call, partial) or call.func is not litellm_main.completion:
        return None
    if len(call.keywords.get("messages") or ()) > MAX_INLINE_MESSAGES:
        return None
    provider = call.keywords.get("custom_llm_provider") or str(call.keywords.get("model")).partition("/")[0]
    return provider if provider in KEY_PROVIDERS else None

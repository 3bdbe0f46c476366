"""LiteLLM prepares each request in a thread of the event loop's executor; what only computes is done in place here.

Going to a thread and back costs a tenth of a call, and gains nothing: both want the one interpreter.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from app.services.llm.litellm_patches.setup import litellm_main

KEY_PROVIDERS = frozenset({"openai", "anthropic", "openrouter"})
"""Providers that take an API key as it is. Others may ask a server for credentials first, which would stop the loop."""


class InlineExecutor(ThreadPoolExecutor):
    """An executor with threads for all but the preparing of a request."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - whatever it is given
        """Run it in a thread, or at once."""
        if not only_computes(fn):
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - an executor hands on whatever is raised
            future.set_exception(error)
        return future


def use_inline_executor() -> None:
    """Give the running event loop such an executor."""
    asyncio.get_running_loop().set_default_executor(InlineExecutor(thread_name_prefix="asyncio"))


def only_computes(fn: Callable[..., Any]) -> bool:
    """Whether this is LiteLLM on its way to prepare a request: `partial(context.run, partial(completion, …))`."""
    call = fn.args[0] if isinstance(fn, partial) and fn.args else None
    if not isinstance(call, partial) or call.func is not litellm_main.completion:
        return False
    provider = call.keywords.get("custom_llm_provider") or str(call.keywords.get("model")).partition("/")[0]
    return provider in KEY_PROVIDERS

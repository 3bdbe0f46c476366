"""An executor that runs LiteLLM's request preparation on the event loop's thread.

LiteLLM prepares each request in the loop's executor. For providers that need only an API key this is pure computation,
so a thread gains nothing and costs two switches.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from app.services.llm.litellm_patches.setup import litellm_main

KEY_PROVIDERS = frozenset({"openai", "anthropic", "openrouter"})
"""Providers that use an API key as it is. Others may request credentials from a server, which would block the loop."""


class InlineExecutor(ThreadPoolExecutor):
    """A thread pool that runs the preparation of requests in place."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - any arguments
        """Run a function in a thread, or in place if it only computes."""
        if not only_computes(fn):
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - an executor passes every error on
            future.set_exception(error)
        return future


def use_inline_executor() -> None:
    """Make this the default executor of the running event loop."""
    asyncio.get_running_loop().set_default_executor(InlineExecutor(thread_name_prefix="asyncio"))


def only_computes(fn: Callable[..., Any]) -> bool:
    """Whether this is LiteLLM preparing a request: `partial(context.run, partial(completion, …))`."""
    call = fn.args[0] if isinstance(fn, partial) and fn.args else None
    if not isinstance(call, partial) or call.func is not litellm_main.completion:
        return False
    provider = call.keywords.get("custom_llm_provider") or str(call.keywords.get("model")).partition("/")[0]
    return provider in KEY_PROVIDERS

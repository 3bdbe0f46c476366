"""The thread on which LiteLLM prepares requests."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from app.demo.provider import register_demo_provider
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.litellm_patches import setup as litellm_setup
from app.services.llm.litellm_patches.inline_executor import (
    MAX_INLINE_MESSAGES,
    InlineExecutor,
    prepared_for,
    use_inline_executor,
)
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer


@pytest.fixture
def submitted_to_threads(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    """The functions that thread pools were given."""
    given: list[Callable[..., Any]] = []
    submit = ThreadPoolExecutor.submit

    def record(executor: ThreadPoolExecutor, fn: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        given.append(fn)
        return submit(executor, fn, *arguments, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", record)
    return given


async def test_only_the_first_request_with_an_api_key_is_prepared_in_a_thread(
    open_gateway: OpenGateway, model_server: ModelServer, submitted_to_threads: list[Callable[..., Any]]
) -> None:
    use_inline_executor()
    gateway = open_gateway(entry(model_server))

    answers = [await gateway.complete(request()) for _ in range(3)]

    assert all(answer.text for answer in answers)
    assert len(model_server.calls) == 3
    assert len([fn for fn in submitted_to_threads if "completion" in repr(fn)]) == 1


async def test_an_error_while_a_request_is_prepared_is_the_calls_error(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> None:  # noqa: ANN401
        raise ValueError("no such parameter")

    use_inline_executor()
    gateway = open_gateway(entry(model_server))
    await gateway.complete(request())
    monkeypatch.setattr(litellm_setup.litellm_main, "completion", broken)

    with pytest.raises(ModelCallFailed):
        await gateway.complete(request())


async def test_a_request_that_was_prepared_in_place_is_ready_at_once(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(*, model: str) -> str:
        return f"prepared for {model}"

    use_inline_executor()
    await open_gateway(entry(model_server)).complete(request())  # imports the provider's modules, in a thread
    monkeypatch.setattr(litellm_setup.litellm_main, "completion", prepared)

    prepare = partial(litellm_setup.litellm_main.completion, model="openai/gpt-4")
    future = asyncio.get_running_loop().run_in_executor(None, partial(contextvars.copy_context().run, prepare))

    assert future.done()
    assert await future == "prepared for openai/gpt-4"


async def test_requests_to_a_provider_that_may_need_credentials_are_prepared_in_a_thread(
    open_gateway: OpenGateway, submitted_to_threads: list[Callable[..., Any]]
) -> None:
    use_inline_executor()
    register_demo_provider()
    gateway = open_gateway({"model_name": "house/model", "litellm_params": {"model": "demo/demo"}})

    for _ in range(2):
        await gateway.complete(request())

    assert len([fn for fn in submitted_to_threads if "completion" in repr(fn)]) == 2


@pytest.mark.parametrize(
    ("call", "provider"),
    [
        ({"model": "openai/gpt-4"}, "openai"),
        ({"model": "gpt-4", "custom_llm_provider": "openai"}, "openai"),
        ({"model": "openai/gpt-4", "messages": [{}] * MAX_INLINE_MESSAGES}, "openai"),
        ({"model": "openai/gpt-4", "messages": [{}] * (MAX_INLINE_MESSAGES + 1)}, None),
        ({"model": "claude", "custom_llm_provider": "vertex_ai"}, None),
        ({"model": "openai/gpt-4", "custom_llm_provider": "azure"}, None),
        ({"model": "bedrock/claude"}, None),
        ({"model": "gpt-4"}, None),
    ],
)
def test_only_short_requests_to_known_providers_are_prepared_in_place(
    call: dict[str, Any], provider: str | None
) -> None:
    run: Any = dict
    assert prepared_for(partial(run, partial(litellm_setup.litellm_main.completion, **call))) == provider


async def test_other_functions_run_in_threads() -> None:
    use_inline_executor()
    running = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_loop() -> str:
        asyncio.run_coroutine_threadsafe(set_running(), loop).result(timeout=5)
        return "done"

    async def set_running() -> None:
        running.set()

    assert await asyncio.to_thread(wait_for_loop) == "done"
    assert running.is_set()
    other: Any = print
    assert not prepared_for(partial(other, partial(other, model="openai/gpt-4")))


def test_an_executor_has_threads_without_an_event_loop() -> None:
    with InlineExecutor(max_workers=1) as executor:
        assert executor.submit(sum, [1, 2]).result(timeout=5) == 3

"""Where LiteLLM prepares its requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from app.demo.provider import register_demo_provider
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.litellm_patches import setup as litellm_setup
from app.services.llm.litellm_patches.inline_executor import InlineExecutor, only_computes, use_inline_executor
from tests.fixtures.model_server import ModelServer
from tests.services.llm.conftest import OpenGateway, entry, request


@pytest.fixture
def went_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    """What was given to the threads of an executor."""
    given: list[Callable[..., Any]] = []
    submit = ThreadPoolExecutor.submit

    def noting(executor: ThreadPoolExecutor, fn: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        given.append(fn)
        return submit(executor, fn, *arguments, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", noting)
    return given


async def test_a_model_call_with_an_api_key_is_prepared_without_a_thread(
    open_gateway: OpenGateway, model_server: ModelServer, went_to_a_thread: list[Callable[..., Any]]
) -> None:
    use_inline_executor()
    gateway = open_gateway(entry(model_server))

    answer = await gateway.complete(request())

    assert answer.text
    assert len(model_server.calls) == 1
    assert not [fn for fn in went_to_a_thread if "completion" in repr(fn)]


async def test_what_goes_wrong_while_it_is_prepared_is_the_calls_error(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> None:  # noqa: ANN401
        raise ValueError("no such parameter")

    use_inline_executor()
    gateway = open_gateway(entry(model_server))
    monkeypatch.setattr(litellm_setup.litellm_main, "completion", broken)

    with pytest.raises(ModelCallFailed):
        await gateway.complete(request())


async def test_a_provider_that_may_ask_for_credentials_first_is_prepared_in_a_thread(
    open_gateway: OpenGateway, went_to_a_thread: list[Callable[..., Any]]
) -> None:
    use_inline_executor()
    register_demo_provider()
    gateway = open_gateway({"model_name": "house/model", "litellm_params": {"model": "demo/demo"}})

    await gateway.complete(request())

    assert [fn for fn in went_to_a_thread if "completion" in repr(fn)]


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ({"model": "openai/gpt-4"}, True),
        ({"model": "gpt-4", "custom_llm_provider": "openai"}, True),
        ({"model": "claude", "custom_llm_provider": "vertex_ai"}, False),
        ({"model": "openai/gpt-4", "custom_llm_provider": "azure"}, False),
        ({"model": "bedrock/claude"}, False),
        ({"model": "gpt-4"}, False),
    ],
)
def test_only_known_providers_are_prepared_in_place(provider: dict[str, str], *, expected: bool) -> None:
    run: Any = dict
    assert only_computes(partial(run, partial(litellm_setup.litellm_main.completion, **provider))) is expected


async def test_all_else_runs_in_threads() -> None:
    use_inline_executor()
    running = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_the_loop() -> str:
        asyncio.run_coroutine_threadsafe(set_running(), loop).result(timeout=5)
        return "done"

    async def set_running() -> None:
        running.set()

    assert await asyncio.to_thread(wait_for_the_loop) == "done"
    assert running.is_set()
    other: Any = print
    assert not only_computes(partial(other, partial(other, model="openai/gpt-4")))


def test_an_executor_of_its_own_still_has_threads() -> None:
    with InlineExecutor(max_workers=1) as executor:
        assert executor.submit(sum, [1, 2]).result(timeout=5) == 3

"""How many event sockets, streams and requests that wait a key may have open."""

from contextlib import AsyncExitStack

import pytest

from tests.fixtures.http_api import insert_foreign_executions, open_socket
from tests.fixtures.services import PROJECT, Service, StartService

pytestmark = pytest.mark.slow


async def open_stream(stack: AsyncExitStack, service: Service, execution_id: str) -> int:
    """Open a stream that stays open as long as the stack; its status."""
    path = f"/api/v1/executions/{execution_id}/events/stream"
    answer = await stack.enter_async_context(service.http.stream("GET", path))
    if answer.status_code == 200:
        parts = answer.aiter_bytes()
        await anext(parts)
        stack.callback(lambda: parts)  # an iterator without a reference would close the stream
    return answer.status_code


async def test_a_key_has_a_bounded_number_of_sockets_and_streams(start_service: StartService) -> None:
    rows = [{"event": {"type": "x"}}]
    async with start_service(max_streams_per_key=2) as service, AsyncExitStack() as stack:
        (execution_id,) = await insert_foreign_executions(service, 1, status="running", events=rows)
        socket = await stack.enter_async_context(open_socket(service))
        assert await socket.is_open()
        first = await open_stream(stack, service, execution_id)
        second = await open_stream(stack, service, execution_id)
        async with open_socket(service) as refused:
            code = await refused.close_code()

    assert (first, second, code) == (200, 429, 1013)


async def test_a_run_is_accepted_without_waiting_where_a_key_has_as_much_open_as_it_may(
    start_service: StartService,
) -> None:
    rows = [{"event": {"type": "x"}}]
    async with start_service(max_streams_per_key=1) as service, AsyncExitStack() as stack:
        (execution_id,) = await insert_foreign_executions(service, 1, status="running", events=rows)
        assert await open_stream(stack, service, execution_id) == 200
        path, body = "/api/v1/agents/plot-specialist-001/runs", {"prompt": "Write.", "project": PROJECT, "judge": False}
        answer = await service.http.post(path, json=body, headers={"Prefer": "wait=30"})

    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers

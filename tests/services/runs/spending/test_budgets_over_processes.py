"""Many runs in several processes on one budget: it holds at every moment, whoever dies, and nothing stays reserved."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from app.services.usage.budgets.errors import BudgetExhausted
from tests.fixtures.model_server import Call, Json, ModelServer, completion
from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.runs import (
    ADA,
    Gate,
    StartProcess,
    accept,
    expire,
    finished,
    process_settings,
    stored,
    subfolder,
    until,
)
from tests.fixtures.services import ADMIN_KEY, PROJECT, Service

pytestmark = pytest.mark.usefixtures("lone_processes")

AGENT_BUDGET = f"agent:{ADA}"
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}


@pytest.fixture(autouse=True)
async def only_budgets_of_the_test(service: Service) -> AsyncGenerator[None]:
    """No budget outlives its test."""
    yield
    await service.services.database["agent-budgets"].delete_many({})
    await service.services.budgets.known.refresh()


async def put(service: Service, tokens: int) -> None:
    """Set the budget."""
    body = {"maxTokens": tokens, "period": "total"}
    answer = await service.http.put(f"/api/v1/budgets/{AGENT_BUDGET}", json=body)
    assert answer.status_code == 200, answer.text


async def get(service: Service) -> Json:
    """The budget as it stands."""
    return (await service.http.get(f"/api/v1/budgets/{AGENT_BUDGET}")).json()


async def cost_of_a_call(service: Service, model_server: ModelServer) -> int:
    """The tokens that a call of the tests reserves."""
    gate = Gate()
    model_server.on("work", lambda _: gate.passed("Done."))
    await put(service, 10**9)
    answer = await service.http.post(f"/api/v1/agents/{ADA}/runs", json=BODY)
    await until(lambda: gate.waiting == 1)
    worst: int = (await get(service))["reservedTokens"]
    gate.open()
    await service.services.engine.wait_for_end(answer.json()["executionId"])
    await service.http.delete(f"/api/v1/budgets/{AGENT_BUDGET}")
    model_server.reset()
    return worst


def using_all(worst: int, pause: Callable[[Call], Awaitable[None]]) -> Callable[[Call], Awaitable[Json]]:
    """A script whose calls use exactly what they have reserved."""

    async def answer(call: Call) -> Json:
        await pause(call)
        usage = {"prompt_tokens": worst - 4096, "completion_tokens": 4096, "total_tokens": worst}
        return completion("Done.") | {"usage": usage}

    return answer


async def watch(service: Service, most: int, excesses: list[Json]) -> None:
    """Look all the time at what is used and reserved."""
    while True:
        budget = await service.services.budgets.store.get(AGENT_BUDGET)
        if budget["usedTokens"] + budget["reservedTokens"] > most:
            excesses.append(budget)
        await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_many_runs_of_several_engines_stay_within_the_budget(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    worst = await cost_of_a_call(service, model_server)
    model_server.on("work", using_all(worst, lambda _: asyncio.sleep(0.01)))
    await put(service, 5 * worst)
    excesses: list[Json] = []
    watching = asyncio.create_task(watch(service, 5 * worst, excesses))
    engines = [await start_process() for _ in range(3)]

    async def run(place: int) -> str | None:
        try:
            execution_id = await accept(service, engines[place % 3], "agent", judge=False)
        except BudgetExhausted:
            return None
        return str((await finished(service, execution_id))["status"])

    ended = await asyncio.gather(*(run(place) for place in range(36)))
    watching.cancel()

    assert len(model_server.calls) == ended.count("completed") == 5
    assert excesses == []
    budget = await get(service)
    assert (budget["usedTokens"], budget["reservedTokens"]) == (5 * worst, 0)


@pytest.mark.slow
async def test_the_reservation_of_a_killed_process_is_released_with_its_tree(
    service: Service, model_server: ModelServer, start_process: StartProcess, tmp_path: Path, gate: Gate
) -> None:
    worst = await cost_of_a_call(service, model_server)
    await put(service, worst)
    model_server.on("work", lambda _: gate.passed("Done.") if len(model_server.calls) == 1 else "Done.")
    settings = process_settings(service, tmp_path, model_server)
    async with serving(tmp_path, **settings) as process:
        async with httpx.AsyncClient(base_url=process.url, headers=HEADERS) as http:
            execution_id = (await http.post(f"/api/v1/agents/{ADA}/runs", json=BODY)).json()["executionId"]
        await until(lambda: gate.waiting == 1)
        process.process.send_signal(signal.SIGKILL)
        await process.process.wait()
        assert (await get(service))["reservedTokens"] == worst
        await expire(service, execution_id)
        await start_process()

        ended = await finished(service, execution_id)

    budget = await get(service)
    assert (ended["status"], ended["takeovers"]) == ("completed", 1)
    assert (budget["usedTokens"], budget["reservedTokens"]) == (15, 0)


async def ended(service: Service, execution_id: str) -> str:
    """The status of a run once it has ended; hundreds of runs of four processes take a while."""
    async with asyncio.timeout(90):
        while (status := (await stored(service, execution_id))["status"]) in ("pending", "running"):  # noqa: ASYNC110 - others store it
            await asyncio.sleep(0.1)
    return str(status)


@pytest.mark.long
async def test_two_hundred_runs_in_three_processes_on_a_budget_of_ten_calls(
    service: Service, model_server: ModelServer, start_process: StartProcess, tmp_path: Path
) -> None:
    worst = await cost_of_a_call(service, model_server)
    killed, hangs = asyncio.Event(), asyncio.Event()

    async def pause(call: Call) -> None:
        if len(model_server.calls) >= 6 and not killed.is_set():  # calls of every process are in flight when one dies
            hangs.set()
            await killed.wait()
        await asyncio.sleep(0.05)

    model_server.on("work", using_all(worst, pause))
    await put(service, 10 * worst)
    excesses: list[Json] = []
    async with AsyncExitStack() as stack:
        watching = asyncio.create_task(watch(service, 10 * worst, excesses))
        stack.callback(watching.cancel)
        processes: list[ServeProcess] = []
        for name in ("one", "two", "three"):
            folder = subfolder(tmp_path, name)
            settings = process_settings(service, folder, model_server)
            processes.append(await stack.enter_async_context(serving(folder, **settings)))

        async def post(place: int) -> str | None:
            url = f"{processes[place % 3].url}/api/v1/agents/{ADA}/runs"
            async with httpx.AsyncClient(headers=HEADERS, timeout=60) as http:
                try:
                    answer = await http.post(url, json=BODY)
                except httpx.TransportError:  # of the process that is killed
                    return None
            assert answer.status_code in (202, 429), answer.text
            return answer.json()["executionId"] if answer.status_code == 202 else None

        posting = [asyncio.create_task(post(place)) for place in range(200)]
        await hangs.wait()
        await asyncio.sleep(0.5)
        processes[0].process.send_signal(signal.SIGKILL)
        await processes[0].process.wait()
        await asyncio.sleep(0.3)
        killed.set()
        posted = await asyncio.gather(*posting)
        ids = [one for one in posted if one is not None]
        for execution_id in (one for place, one in enumerate(posted) if place % 3 and one is not None):
            await ended(service, execution_id)  # in the processes that live
        for execution_id in ids:
            if (await stored(service, execution_id))["status"] in ("pending", "running"):
                await expire(service, execution_id)
        await start_process()
        statuses = [await ended(service, one) for one in ids]

    lost = len(model_server.abandoned)  # the calls of the process that died
    assert excesses == []
    assert len(model_server.calls) - lost <= 10
    assert statuses.count("completed") <= 10
    budget = await get(service)
    assert budget["reservedTokens"] == 0
    assert budget["usedTokens"] == (len(model_server.calls) - lost) * worst
    assert budget["usedTokens"] == 10 * worst

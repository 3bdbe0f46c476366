"""The ledger of a run whose process is killed, and of one that is answered from the response cache."""

import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.services.runs.engine.dispatcher import RunLimits
from tests.fixtures.billing import Account, Behavior, check_books, write_priced_models
from tests.fixtures.model_server import Call, ModelServer, Reply, all_goes_well
from tests.fixtures.processes import serving
from tests.fixtures.runs import (
    BOB,
    Gate,
    StartProcess,
    accept,
    expire,
    finished,
    process_settings,
    stored_once,
    subfolder,
    until,
)
from tests.fixtures.services import Service
from tests.services.runs.reviewing import TWO, send_review

pytestmark = pytest.mark.usefixtures("lone_processes")
HISTORY = [Behavior.RATE_LIMIT, Behavior.RAMBLE, Behavior.ANSWER, Behavior.USE_A_TOOL]
"""The plan is refused, unusable, and good; then Ada uses a tool."""
AFTER = [Behavior.ANSWER, *[Behavior.DEMAND_A_REVISION] * 3]


def priced_process(service: Service, folder: Path, model_server: ModelServer) -> dict[str, str]:
    """The settings of a process whose models have prices."""
    settings = process_settings(service, folder, model_server)
    return settings | {"MODELS_CONFIG": str(write_priced_models(folder / "priced.yaml", model_server.url))}


def two_work(call: Call) -> Reply:
    """Ada begins, and Bob continues."""
    return TWO if call.purpose == "plan" else all_goes_well(call)


@pytest.mark.long
async def test_the_books_agree_after_faults_a_kill_and_the_revisions_of_the_head_and_of_a_person(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate, tmp_path: Path
) -> None:
    account = Account([*HISTORY], usual=two_work)

    async def answer(call: Call) -> Reply:
        if gate.waiting == 0 and call.purpose == "work" and call.is_from(BOB):
            return await gate.passed("Too late.")
        return account.answer(call)

    model_server.on("*", answer)
    one, two = (subfolder(tmp_path, name) for name in ("one", "two"))
    nobody = await start_process(RunLimits(max_concurrent=0))
    root_id = await accept(service, nobody, "department")
    async with AsyncExitStack() as stack:
        victim = await stack.enter_async_context(serving(one, "worker", **priced_process(service, one, model_server)))
        await until(lambda: gate.waiting == 1)
        victim.process.send_signal(signal.SIGKILL)
        await victim.process.wait()
        await expire(service, root_id)
        account.behaviors = [*AFTER]
        await stack.enter_async_context(serving(two, "worker", **priced_process(service, two, model_server)))

        ended = await finished(service, root_id)

        assert (ended["status"], ended["takeovers"]) == ("completed", 1)
        rows = await check_books(service, root_id, account)
        plans = [row for row in rows if row["purpose"] == "plan"]
        assert [row["errorCode"] for row in plans] == ["model-rate-limited", None, None]
        before = account.requests
        assert (await send_review(service, root_id, "revision-needed", "Once more.")).status_code == 202
        await stored_once(service, root_id, lambda raw: raw["status"] == "completed" and account.requests > before)
        await check_books(service, root_id, account)

"""Runs from the command line: started, followed, left and cancelled on a server."""

import asyncio
import re
import signal
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import httpx
import pytest

from tests.fixtures.model_server import Call, ModelServer
from tests.fixtures.processes import COMMAND, bare_environment, run_command, serving
from tests.fixtures.services import PROJECT, write_models_config
from tests.fixtures.waiting import wait_until


@pytest.mark.slow
async def test_run_follows_a_run_on_a_server(tmp_path: Path) -> None:
    async with serving(tmp_path, ADMIN_API_KEY="a-bootstrap-admin-key") as server:
        common = ("--project", PROJECT, "--prompt", "Two lines.", "--url", server.url, "--key", "a-bootstrap-admin-key")
        agent = await run_command("run", "agent", "dialogue-specialist-001", *common, cwd=tmp_path)
        department = await run_command("run", "department", "audio", *common, cwd=tmp_path)
        unknown = await run_command("run", "agent", "unknown-001", *common, cwd=tmp_path)
        (tmp_path / "schema.json").write_text(
            '{"type": "object", "properties": {"mood": {"enum": ["calm"]}}, "required": ["mood"]}'
        )
        (tmp_path / "broken.json").write_text("{")
        data, broken = [
            await run_command("run", "agent", "dialogue-specialist-001", *common, "--output-schema", name, cwd=tmp_path)
            for name in ("schema.json", "broken.json")
        ]

    assert data[0] == 0, data[1]
    assert '{"mood": "calm"}' in data[1] or '{"mood":"calm"}' in data[1], data[1]
    assert (broken[0], "--output-schema: broken.json is not JSON" in broken[1]) == (1, True)
    assert agent[0] == 0, agent[1]
    assert "agent-response" in agent[1]
    assert department[0] == 0, department[1]
    assert "department-complete" in department[1]
    assert unknown == (1, "dynamic-agents: There is no agent 'unknown-001'. (HTTP 404)\n")


@pytest.mark.slow
async def test_a_run_is_followed_and_cancelled_by_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path, ADMIN_API_KEY="a-bootstrap-admin-key") as server:
        common = ("--url", server.url, "--key", "a-bootstrap-admin-key")
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": "a-bootstrap-admin-key"}) as http:
            body = {"prompt": "Two lines.", "project": PROJECT}
            run = (await http.post("/api/v1/agents/dialogue-specialist-001/runs", json=body)).json()
        followed = await run_command("follow", run["executionId"], *common, cwd=tmp_path)
        late = await run_command("cancel", run["executionId"], *common, cwd=tmp_path)
        unknown = await run_command("follow", "exec_unknown", *common, cwd=tmp_path)

    assert followed[0] == 0, followed[1]
    assert "agent-response" in followed[1]
    assert (late[0], "HTTP 409" in late[1]) == (1, True)
    assert (unknown[0], unknown[1].count("\n")) == (1, 1)


@pytest.mark.slow
async def test_ctrl_c_stops_watching_and_says_that_the_run_continues(tmp_path: Path, model_server: ModelServer) -> None:
    held = asyncio.Event()

    async def wait(_: Call) -> str:
        await held.wait()
        return "Done."

    model_server.on("work", wait)
    config = write_models_config(tmp_path / "models.yaml", model_server.url)
    async with serving(tmp_path, ADMIN_API_KEY="a-bootstrap-admin-key", MODELS_CONFIG=str(config)) as server:
        common = ("--project", PROJECT, "--prompt", "x", "--url", server.url, "--key", "a-bootstrap-admin-key")
        command = await asyncio.create_subprocess_exec(
            *(str(COMMAND), "run", "agent", "dialogue-specialist-001", *common),
            cwd=tmp_path, env=bare_environment(), stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        await wait_until(lambda: bool(model_server.calls), 60)
        command.send_signal(signal.SIGINT)
        printed = (await command.communicate())[0].decode()
        execution = re.findall(r"Execution (\S+):", printed)[0]
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": "a-bootstrap-admin-key"}) as http:
            status = (await http.get(f"/api/v1/executions/{execution}")).json()["status"]
        cancelled = await run_command("cancel", execution, "--url", server.url, "--key", common[-1], cwd=tmp_path)
        held.set()

    assert command.returncode == 128 + signal.SIGINT
    assert "the run continues" in printed
    assert f"dynamic-agents follow {execution}" in printed
    assert f"dynamic-agents cancel {execution}" in printed
    assert status == "running"
    assert cancelled == (0, f"Execution {execution} is cancelled.\n")


@pytest.mark.long
async def test_the_first_ctrl_c_reports_the_wait_and_the_second_skips_it(
    tmp_path: Path, model_server: ModelServer
) -> None:
    held = asyncio.Event()

    async def wait(_: Call) -> str:
        await held.wait()
        return "Done."

    model_server.on("work", wait)
    config = write_models_config(tmp_path / "models.yaml", model_server.url)
    async with serving(tmp_path, ADMIN_API_KEY="a-bootstrap-admin-key", MODELS_CONFIG=str(config)) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": "a-bootstrap-admin-key"}) as http:
            await http.post("/api/v1/agents/dialogue-specialist-001/runs", json={"prompt": "x", "project": PROJECT})
        await wait_until(lambda: bool(model_server.calls), 60)
        server.process.send_signal(signal.SIGINT)
        assert server.process.stdout is not None
        async with asyncio.timeout(30):
            first = (await server.process.stdout.readline()).decode()
        code = await server.stop(signal.SIGINT)
        held.set()

    printed = "".join(server.printed)
    assert first.startswith("Stopping: up to 5 s for 1 run to end;")
    assert first.endswith("Press Ctrl-C again to stop at once.\n")
    assert "Stopping at once." in printed
    assert code == 0


async def test_run_says_when_no_server_answers(tmp_path: Path) -> None:
    arguments = ("--project", PROJECT, "--prompt", "x", "--url", "http://127.0.0.1:9")

    code, printed = await run_command("run", "agent", "any-001", *arguments, cwd=tmp_path)

    assert code == 1
    assert printed.startswith("dynamic-agents: No service answers at http://127.0.0.1:9")
    assert printed.count("\n") == 1

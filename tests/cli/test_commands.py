"""The command line as a person uses it: real processes, real output, one line for each expected failure."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
from asyncio.subprocess import PIPE, STDOUT
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from app.database.connection import Database
from app.services.catalog.seeds.files import SEEDS
from tests.fixtures.model_server import ModelServer
from tests.fixtures.processes import (
    COMMAND,
    INSTALLED,
    bare_environment,
    processes_in,
    run_command,
    run_installed,
    serving,
)
from tests.fixtures.services import PROJECT, write_models_config
from tests.fixtures.waiting import wait_until

CODE = "custom-tools/cueSheet/execute.js"


async def test_help_lists_the_commands(tmp_path: Path) -> None:
    code, printed = await run_installed("--help", cwd=tmp_path)

    assert code == 0
    assert all(command in printed for command in ("serve", "demo", "seed", "run", "keys", "usage", "doctor"))


@pytest.mark.slow
async def test_the_demo_shows_a_complete_department_run_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # The demo ignores the configuration and uses no network.
    configured = {"MODELS_CONFIG": "/nowhere.yaml", "MONGODB_URI": "mongodb://nowhere", "ANTHROPIC_API_KEY": "k" * 20}

    code, printed = await run_installed("demo", cwd=tmp_path, **configured)

    assert code == 0, printed
    events = printed.split("\nReport\n")[0].split("pending\n")[1].strip().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", line) for line in events), "every event is one line"
    assert "on the model demo" in printed
    lines = [line.split() for line in printed.splitlines() if re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", line)]
    happened = {(line[1], line[2]) for line in lines}
    specialists = {agent for agent, kind in happened if kind == "agent-complete" and "-specialist-" in agent}
    assert ("story-head-001", "agent-thinking") in happened
    assert "Plan: plot-specialist-001; theme-specialist-001; dialogue-specialist-001 (after plot-" in printed
    assert len(specialists) >= 3
    assert sum(line[2] == "tool-call" for line in lines) >= 3
    assert sum(line[2] == "tool-result" for line in lines) == sum(line[2] == "tool-call" for line in lines)
    decisions = [line[3] for line in lines if line[2] == "review-status" and line[1] == "dialogue-specialist-001"]
    assert decisions == ["revision-needed", "approved"]
    assert "## Summary" in printed
    assert re.search(r"^specialist +plot-specialist-001 +0\.\d\d +0\.50 +passed", printed, re.MULTILINE)
    assert re.search(r"^department +0\.\d\d +0\.60 +passed", printed, re.MULTILINE)
    assert re.search(r"^orchestrator +0\.75", printed, re.MULTILINE)
    assert re.search(r"^total +\d+ +\d+ +\$0\.\d{4}", printed, re.MULTILINE)
    offer = r"^The run in the console: DATA_DIR=\S+ \S*dynamic-agents serve, then open /runs/exec_\w+$"
    assert re.search(offer, printed, re.MULTILINE)
    assert processes_in(tmp_path) == []


@pytest.mark.long
async def test_on_a_terminal_the_demo_offers_its_run_in_the_console(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), "demo", cwd=tmp_path, env=bare_environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        printed = await read_until(ours, "Press Enter")
        [(url, execution_id, code)] = re.findall(r"console: (http\S+)/runs/(exec_\w+)#sign-in=(\S+)", printed)
        async with httpx.AsyncClient(base_url=url) as http:
            page = await http.get(f"/runs/{execution_id}")
            key = (await http.post("/api/v1/me/sign-in", json={"code": code})).json()["apiKey"]
            run = await http.get(f"/api/v1/executions/{execution_id}", headers={"X-API-Key": key})
        os.write(ours, b"\n")
        status = await asyncio.wait_for(process.wait(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)

    assert (page.status_code, run.json()["status"], status) == (200, "completed", 0)
    assert "<title>" in page.text


async def read_until(descriptor: int, text: str) -> str:
    """All that a terminal shows until it shows a text."""
    shown = ""
    async with asyncio.timeout(120):
        while text not in shown:
            shown += (await asyncio.to_thread(os.read, descriptor, 65536)).decode(errors="replace")
    return shown.replace("\r\n", "\n")


@pytest.mark.slow
async def test_serve_shows_the_admin_key_once_keeps_its_data_and_ends_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path, "serve", INSTALLED) as first:
        key = (tmp_path / ".data" / "admin-key").read_text().strip()
        async with httpx.AsyncClient(base_url=first.url, headers={"X-API-Key": key}) as http:
            made = await http.post("/api/v1/api-keys", json={"name": "mine", "role": "viewer"})
            [link] = re.findall(r"Console: (\S+)#sign-in=(\S+)", "\n".join(first.printed))
            signed_in = await http.post("/api/v1/me/sign-in", json={"code": link[1]})
        first_code = await first.stop()

    async with serving(tmp_path) as second, httpx.AsyncClient(base_url=second.url) as http:
        answer = await http.get("/api/v1/executions", headers={"X-API-Key": made.json()["key"]})
        second_code = await second.stop(signal.SIGINT)

    assert (link[0], signed_in.json()) == (f"{first.url}/", {"apiKey": key})
    assert signed_in.headers["Cache-Control"] == "no-store"
    assert key in "".join(first.printed)
    assert key not in "".join(second.printed)
    assert (first_code, second_code) == (0, 0)
    assert answer.status_code == 200
    assert (os.stat(tmp_path / ".data" / "admin-key").st_mode & 0o777) == 0o600
    assert processes_in(tmp_path) == []


@pytest.mark.long
async def test_an_admin_key_is_made_by_no_start_that_fails_and_in_place_of_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / ".data" / "admin-key"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed = await run_command("serve", "--port", str(taken.getsockname()[1]), cwd=tmp_path)
    made = path.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n")
    path.chmod(0o644)

    async with serving(tmp_path) as first:
        key = path.read_text().strip()
        async with httpx.AsyncClient(base_url=first.url, headers={"X-API-Key": key}) as http:
            answer = await http.get("/api/v1/api-keys")
    async with serving(tmp_path) as second:
        pass

    assert (failed[0], made) == (1, False)
    assert f"Admin key, shown only once: {key}" in "".join(first.printed)
    assert (answer.status_code, path.stat().st_mode & 0o777) == (200, 0o600)
    assert "The admin key is stored in .data/admin-key" in "".join(second.printed)


@pytest.mark.long
async def test_a_killed_service_leaves_no_mongod_and_its_run_is_carried_on(
    tmp_path: Path, model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = write_models_config(tmp_path_factory.mktemp("models") / "models.yaml", model_server.url)
    variables = {"MODELS_CONFIG": str(config), "ADMIN_API_KEY": "a-bootstrap-admin-key"}
    body = {"prompt": "Continue.", "project": PROJECT}
    headers = {"X-API-Key": variables["ADMIN_API_KEY"]}

    async with serving(tmp_path, **variables) as first, httpx.AsyncClient(base_url=first.url, headers=headers) as http:
        accepted = await http.post("/api/v1/departments/audio/runs", json=body)
        await first.stop(signal.SIGKILL)
    async with (
        serving(tmp_path, **variables) as second,
        httpx.AsyncClient(base_url=second.url, headers=headers) as http,
    ):
        path = accepted.json()["links"]["stream"]
        async with http.stream("GET", path, timeout=60) as stream:
            frames = [line async for line in stream.aiter_lines()]

    assert accepted.status_code == 202
    ending = json.loads(frames[-2].removeprefix("data: "))
    assert (ending["type"], ending["status"]) == ("execution-end", "completed")
    assert processes_in(tmp_path) == []


@pytest.mark.slow
async def test_keys_are_listed_and_revoked(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        _, key = await run_command("keys", "create", "--name", "ci", "--role", "viewer", cwd=tmp_path)
        listed = await run_command("keys", "list", cwd=tmp_path)
        key_id = re.findall(r"^([0-9a-f]{24}) +viewer .* ci *$", listed[1], re.MULTILINE)[0]
        revoked = await run_command("keys", "revoke", key_id, cwd=tmp_path)
        again = await run_command("keys", "revoke", key_id, cwd=tmp_path)
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key.strip()}) as http:

            async def is_refused() -> bool:
                return (await http.get("/api/v1/executions")).status_code == 401

            await wait_until(is_refused, 10)

    assert (listed[0], revoked[0], again[0]) == (0, 0, 1)
    assert key.strip() not in listed[1]
    assert again[1].startswith("dynamic-agents: ")


@pytest.mark.long
async def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    command = f"{COMMAND} doctor 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, cwd=tmp_path, env=bare_environment(), stdout=PIPE, stderr=STDOUT
    )
    printed = (await process.communicate())[0].decode()

    assert "Traceback" not in printed
    assert printed.splitlines()[-1] in ("0", "1", str(128 + signal.SIGPIPE))


@pytest.mark.slow
async def test_the_version_is_printed(tmp_path: Path) -> None:
    assert await run_command("--version", cwd=tmp_path) == (0, f"{metadata.version('dynamic-agents')}\n")


@pytest.mark.slow
async def test_a_tool_is_tried_on_a_server(tmp_path: Path) -> None:
    async with serving(tmp_path, ADMIN_API_KEY="a-bootstrap-admin-key") as server:
        common = ("--url", server.url, "--key", "a-bootstrap-admin-key")
        given = await run_command(
            "tool", "test", "textStatistics", "--input", '{"text": "Two words."}', *common, cwd=tmp_path
        )
        failed = await run_command("tool", "test", "textStatistics", "--input", "{}", *common, cwd=tmp_path)
        unknown = await run_command("tool", "test", "noSuchTool", *common, cwd=tmp_path)
    garbled = await run_command("tool", "test", "textStatistics", "--input", "{", cwd=tmp_path)

    assert given[0] == 0, given[1]
    assert '"words": 2' in given[1]
    assert re.search(r"^\d+\.\d ms", given[1], re.MULTILINE)
    assert (failed[0], failed[1].startswith("tool-input-invalid: text")) == (1, True)
    assert unknown == (1, "dynamic-agents: There is no custom tool 'noSuchTool'. (HTTP 404)\n")
    assert (garbled[0], "--input is not JSON" in garbled[1]) == (1, True)


@pytest.mark.slow
async def test_keys_and_seed_work_beside_a_running_service(tmp_path: Path) -> None:
    changed = Path(shutil.copytree(SEEDS, tmp_path / "changed"))
    for path, old, new in (("departments.yaml", "Story Dep", "Narrative Dep"), (CODE, "(", "/* new */ (")):
        text = (changed / path).read_text(encoding="utf-8")
        (changed / path).write_text(text.replace(old, new, 1), encoding="utf-8")
    async with serving(tmp_path) as server:
        code, key = await run_command("keys", "create", "--name", "ci", "--role", "viewer", cwd=tmp_path)
        seeded = await run_command("seed", cwd=tmp_path)
        changing = await run_command("seed", str(changed), cwd=tmp_path)
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key.strip()}) as http:
            reading = await http.get("/api/v1/executions")
            story = await http.get("/api/v1/departments/story")
            starting = await http.post("/api/v1/agents/x/runs", json={"prompt": "x", "project": PROJECT})

    assert code == 0
    assert re.fullmatch(r"da_[A-Za-z0-9_-]{43}\n", key)
    assert (reading.status_code, starting.status_code) == (200, 403)
    assert seeded[0] == 0
    assert "Inserted 0 departments, 0 agents, 0 custom tools" in seeded[1]
    assert "Unchanged 6 departments, 28 agents, 17 custom tools" in seeded[1]
    assert changing[0] == 1
    assert "Changed 1 department, 0 agents, 0 custom tools" in changing[1]
    assert "cueSheet: version: must be greater than 1.0.0 because the code changed" in changing[1]
    assert story.json()["name"] == "Narrative Department"


@pytest.mark.slow
async def test_the_doctor_finds_nothing_wrong_with_a_fresh_installation(tmp_path: Path) -> None:
    code, printed = await run_command("doctor", cwd=tmp_path)

    assert code == 0, printed
    assert "WRONG" not in printed
    assert "replica set" in printed
    assert "agent-executions: all indexes are there" in printed
    assert "tools: the sandbox runs" in printed


@pytest.mark.slow
async def test_the_doctor_reports_every_problem(tmp_path: Path, database_uri: str, database: Database) -> None:
    await database["departments"].drop_index("slug_1")
    twins = await database["departments"].insert_many([{"slug": "story", "name": "A"}, {"slug": "story", "name": "B"}])
    await database["agents"].drop_index("agentId_1")
    await database["agents"].create_index("agentId", name="agentId_1", unique=False)
    config = tmp_path / "models.yaml"
    entry = {"model_name": "m", "litellm_params": {"model": "openai/x", "api_key": "os.environ/NO_SUCH_KEY"}}
    config.write_text(json.dumps({"model_list": [entry]}))

    code, printed = await run_command(
        "doctor", cwd=tmp_path, MONGODB_URI=database_uri, MODELS_CONFIG=str(config), REDIS_URL="redis://127.0.0.1:9"
    )

    assert code == 1
    assert re.search(r"WRONG +m: .*NO_SUCH_KEY", printed)
    assert re.search(r"WRONG +Redis: REDIS_URL", printed)
    assert re.search(r"WRONG +departments: slug_1 is missing", printed)
    assert re.search(
        rf"WRONG +departments: 2 documents share slug story: {'.*'.join(map(str, twins.inserted_ids))}", printed
    )
    assert re.search(r"WRONG +agents: agentId_1 has different options", printed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "agent", "x", "--project", PROJECT, "--prompt", "x", "--key", "bäd"), "Invalid API key"),
        (("run", "agent", "x", "--project", PROJECT, "--prompt", "x", "--key", "two\nlines"), "Invalid API key"),
        (("run", "agent", "x", "--project", PROJECT, "--prompt", "\udcff"), "that JSON cannot represent"),
        (("tool", "test", "x", "--input", "NaN"), "that JSON cannot represent"),
        (("tool", "test", "x", "--input", '{"text": "\\ud800"}'), "that JSON cannot represent"),
        (("tool", "test", "x", "--input", "1e999"), "that JSON cannot represent"),
        (("tool", "test", "x", "--input", "[" * 5000), "--input is not JSON"),
        (("keys", "create", "--role", "viewer", "--name", " "), "--name: "),
        (("keys", "create", "--role", "viewer", "--name", ""), "--name: "),
        (("keys", "create", "--role", "viewer", "--name", "x", "--project", "x"), "--project: "),
        (("keys", "create", "--role", "viewer", "--name", "\udcff"), "--name: "),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
async def test_an_invalid_argument_is_reported_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, printed = await run_command(*arguments, cwd=tmp_path)

    assert code == 1
    assert said in printed
    assert printed.startswith("dynamic-agents: ")
    assert printed.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PORT": "ninety"}, "PORT is invalid"),
        ({"TOOL_MEMORY_MB": "1"}, "TOOL_MEMORY_MB is invalid"),
        ({"REDIS_URL": "redis://user:pw@host:notaport"}, "REDIS_URL is invalid"),
        ({"MODELS_CONFIG": "/no/such/file.yaml"}, "MODELS_CONFIG: /no/such/file.yaml cannot be read"),
        ({"MONGODB_URI": "postgres://x"}, "MONGODB_URI is not a MongoDB connection string"),
        ({"MONGOD_BINARY": "/no/such/mongod"}, "MONGOD_BINARY"),
        ({"HOST": "203.0.113.1"}, "HOST is invalid: cannot listen on '203.0.113.1'"),
        ({"HOST": "999.1.1.1"}, "HOST is invalid: cannot listen on '999.1.1.1'"),
    ],
)
async def test_a_failed_start_is_reported_in_one_line(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    code, printed = await run_command("serve", cwd=tmp_path, **{"PORT": "0"} | variables)

    assert code == 1
    assert said in printed
    assert printed.startswith("dynamic-agents: ")
    assert printed.count("\n") == 1


@pytest.mark.slow
async def test_a_second_service_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path):
        code, printed = await run_command("serve", "--port", "0", cwd=tmp_path)

    assert code == 1
    assert "is in use by another service" in printed

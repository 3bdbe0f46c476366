"""A restored backup is a working database: events replay, keys are valid, and runs in progress continue.

One service fills the embedded database of a directory. It is dumped while the service works, and the directory is
copied once the service has stopped. Each backup is then restored and tried by a service of its own.
"""

import asyncio
import shutil
import stat
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from pymongo import AsyncMongoClient

from app.database.embedded.mongod import EmbeddedMongod
from app.services.retention.passes import RetentionPass
from tests.fixtures.approvals import decide, pending, start
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion
from tests.fixtures.processes import run_command
from tests.fixtures.runs import Gate, all_events, finished, gapless, of_type, types_of
from tests.fixtures.services import (
    ADMIN_KEY,
    PROJECT,
    WITHOUT_ROOTS,
    Service,
    running_service,
    write_models_config,
)
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long
AGENT = "dialogue-specialist-001"
RUNS = f"agents/{AGENT}/runs"
HELD = "Wait."
MODEL_SECONDS = 300
BODY = {"prompt": "Write something.", "project": PROJECT, "judge": False}
IDEMPOTENCY = {"Idempotency-Key": "before-the-backup"}
TOOLS = ("mongodump", "mongorestore")
ARCHIVE = "archive"
DUMP = "dump.gz"
PASSWORD = "of-the-tests"


@dataclass(frozen=True)
class State:
    """The content of the database at the time of a backup: run ids by kind, their events, and the keys."""

    runs: dict[str, str]
    events: dict[str, list[Json]]
    key: str
    revoked_later: Json


@dataclass(frozen=True)
class Backups:
    """The folder with the copy of the data directory, the dump and the archived runs, and what they hold."""

    folder: Path
    state: State

    @property
    def copy(self) -> Path:
        """The copy of the stopped data directory."""
        return self.folder / "copy"


async def work(call: Call, gate: Gate) -> Reply:
    """A tool call, then an answer; that of the run that is to be held waits for the gate."""
    if not call.tool_results:
        return completion("Hm.", ("textStatistics", {"text": "One. Two."}))
    return await gate.passed("Late.") if HELD in call.text else "Done."


async def fill(service: Service, gate: Gate) -> State:
    """Leave an archived run, an ended one, one that waits for approval, one within its second model call, and keys."""
    archived = await service.run_agent(AGENT, judge=False)
    await service.services.control.outbox.settle()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    done = await RetentionPass(service.services.database, service.services.executions.archives, share=1).run(tomorrow)
    assert done is not None
    assert done.trees == 1
    ended = await service.http.post(f"/api/v1/{RUNS}", json=BODY, headers={"Prefer": "wait=30", **IDEMPOTENCY})
    assert ended.json()["status"] == "completed"
    approval = await start(service, RUNS, judge=False, approvals="all")
    await pending(service, approval)
    held = await start(service, RUNS, judge=False, prompt=HELD)
    await wait_until(lambda: gate.waiting > 0, 30)
    await wait_until_stored(service, held, "tool-result")
    runs = {
        "archived": archived["executionId"],
        "ended": ended.json()["executionId"],
        "approval": approval,
        "held": held,
    }
    keys = [
        (await service.http.post("/api/v1/api-keys", json={"name": name, "role": "runner"})).json()
        for name in ("studio", "revoked-later")
    ]
    return State(runs, {name: await all_events(service, root) for name, root in runs.items()}, keys[0]["key"], keys[1])


async def wait_until_stored(service: Service, root: str, last: str) -> None:
    """Wait until an event of this type is the last stored one."""

    async def is_stored() -> bool:
        return types_of(await all_events(service, root))[-1:] == [last]

    await wait_until(is_stored, 20)


@asynccontextmanager
async def embedded(data_dir: Path, config: Path) -> AsyncGenerator[Service]:
    """A service on the embedded database of a directory."""
    mongod = EmbeddedMongod(data_dir)
    try:
        async with running_service(await mongod.start(), data_dir, models_config=config) as service:
            yield service
    finally:
        await mongod.stop()


async def run_tool(name: str, *arguments: str) -> None:
    """Run one of MongoDB's database tools to its end."""
    process = await asyncio.create_subprocess_exec(name, *arguments, stdout=PIPE, stderr=STDOUT)
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()


async def create_user(uri: str, name: str, role: str) -> str:
    """Create a database user with one role, as the guide describes; its URI for the database tools."""
    client: AsyncMongoClient[Json] = AsyncMongoClient(uri)
    async with client:
        if role == "restorer":
            everything = [{"resource": {"anyResource": True}, "actions": ["anyAction"]}]
            await client.admin.command("createRole", role, privileges=everything, roles=[])
        await client.admin.command("createUser", name, pwd=PASSWORD, roles=[role])
    address = uri.rpartition("@")[2].partition("/")[0]
    return f"mongodb://{name}:{PASSWORD}@{address}/?authSource=admin&directConnection=true"


def has_tools() -> bool:
    """Whether MongoDB's database tools are installed."""
    return all(map(shutil.which, TOOLS))


@pytest.fixture(scope="module")
async def backups(
    shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Backups]:
    """The backups of one working service, whose directory is gone."""
    folder = tmp_path_factory.mktemp("backups")
    data_dir, gate = folder / "data", Gate()
    config = write_models_config(folder / "models.yaml", shared_model_server.url, timeout=MODEL_SECONDS)
    shared_model_server.reset()
    shared_model_server.on("work", partial(work, gate=gate))
    async with embedded(data_dir, config) as service:
        state = await fill(service, gate)
        if has_tools():
            uri = await create_user(service.database_uri, "backup", "backup")
            await run_tool("mongodump", f"--uri={uri}", "--oplog", "--gzip", f"--archive={folder / DUMP}")
            shutil.copytree(data_dir / ARCHIVE, folder / ARCHIVE)
        revoked = await service.http.delete(f"/api/v1/api-keys/{state.revoked_later['id']}")
        assert revoked.status_code == 204
    shutil.copytree(data_dir, folder / "copy")
    shutil.rmtree(data_dir)
    yield Backups(folder, state)
    gate.open()


async def check(service: Service, model_server: ModelServer, state: State, *, revoked: bool) -> None:
    """Prove that a service on the restored database has everything and continues what was in progress."""
    runs, before = state.runs, state.events
    assert (await finished(service, runs["held"]))["status"] == "completed"
    events = await all_events(service, runs["held"])
    assert events[: len(before["held"])] == before["held"]
    assert types_of(events)[len(before["held"]) :] == ["agent-retry", "agent-response", "agent-complete"]
    assert [len(call.tool_results) for call in model_server.calls_for("work")] == [1]  # nothing stored is repeated

    for name in ("archived", "ended", "approval"):
        assert await all_events(service, runs[name]) == before[name]
    [approval] = await pending(service, runs["approval"])
    assert (await decide(service, approval)).status_code == 200
    assert (await finished(service, runs["approval"]))["status"] == "completed"
    decided = await all_events(service, runs["approval"])
    assert gapless(decided)
    assert len(of_type(decided, "tool-result")) == 1

    statuses = [await status_with(service, key) for key in (state.key, state.revoked_later["key"])]
    assert statuses == [200, 401 if revoked else 200]
    repeated = await service.http.post(f"/api/v1/{RUNS}", json=BODY, headers=IDEMPOTENCY)
    assert repeated.json()["executionId"] == runs["ended"]
    again = await service.run_agent(AGENT, judge=False, previousExecutionId=runs["ended"])
    assert again["status"] == "completed"
    await service.services.control.outbox.settle()
    verified = (await service.http.get("/api/v1/audit/verify")).json()
    assert (verified["ok"], verified["firstBad"]) == (True, None)
    assert verified["trees"] >= 2


async def status_with(service: Service, key: str) -> int:
    """The status of a request with a key."""
    async with httpx.AsyncClient(base_url=service.url, verify=WITHOUT_ROOTS) as http:
        return (await http.get("/api/v1/me", headers={"X-API-Key": key})).status_code


@pytest.fixture
def patient_config(model_server: ModelServer, tmp_path: Path) -> Path:
    """The models; the gate is open for everybody."""
    opened = Gate()
    opened.open()
    model_server.on("work", partial(work, gate=opened))
    return write_models_config(tmp_path / "models.yaml", model_server.url, timeout=MODEL_SECONDS)


async def test_a_copy_of_the_stopped_data_directory_restores_the_embedded_database(
    backups: Backups, model_server: ModelServer, patient_config: Path, tmp_path: Path
) -> None:
    restored = tmp_path / "restored"
    shutil.copytree(backups.copy, restored)

    async with embedded(restored, patient_config) as service:
        await check(service, model_server, backups.state, revoked=True)

    modes = {name: stat.S_IMODE((restored / name).stat().st_mode) for name in ("mongod.key", "mongod.password")}
    assert set(modes.values()) == {0o600}


@pytest.mark.skipif(not has_tools(), reason="mongodump and mongorestore are not on PATH")
async def test_a_dump_of_the_working_database_restores_into_an_empty_one(
    backups: Backups, model_server: ModelServer, patient_config: Path, tmp_path: Path
) -> None:
    target, archive = tmp_path / "empty", backups.folder / DUMP
    mongod = EmbeddedMongod(target)
    try:
        uri = await create_user(await mongod.start(), "restore", "restorer")
        await run_tool("mongorestore", f"--uri={uri}", "--oplogReplay", "--gzip", f"--archive={archive}")
        # The dump holds the user of the first server, whose password the next start replaces.
        await mongod.stop()
        uri = await mongod.start()
        data_dir = tmp_path / "data"
        shutil.copytree(backups.folder / ARCHIVE, data_dir / ARCHIVE)
        settings = {"MONGODB_URI": uri, "DATA_DIR": str(data_dir), "MODELS_CONFIG": str(patient_config)}
        code, printed = await run_command("doctor", cwd=tmp_path, ADMIN_API_KEY=ADMIN_KEY, **settings)
        assert code == 0, printed
        async with running_service(uri, data_dir, models_config=patient_config, seed_on_start=False) as service:
            await check(service, model_server, backups.state, revoked=False)
    finally:
        await mongod.stop()

"""Version 0.1.0 and this version at the same time on one database, as in a rolling upgrade and on the way back.

An API process of each version runs all the time; each test starts and ends the workers that it is about.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.fixtures.earlier_release import NotInThisClone, check_out, install
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, plan_of
from tests.fixtures.processes import QUICKLY, ServeProcess, Start, serving
from tests.fixtures.runs import gapless, of_type, types_of
from tests.fixtures.services import ADMIN_KEY, DATABASE_NUMBERS, PROJECT, WITHOUT_ROOTS, write_models_config
from tests.fixtures.valkey import ValkeyProcess
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long
FIRST, SECOND = "dialogue-specialist-001", "theme-specialist-001"
DEPARTMENT = "story"
HOLD = "Hold"
RUNS = 12
MODEL_SECONDS = 300
TAKEOVER_SECONDS = 60


@dataclass
class Studio:
    """Models that do not answer the second specialist of a run that is to be held, until another process asks."""

    held: set[str] = field(default_factory=set[str])
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, call: Call) -> Reply:
        """A tool call, then an answer."""
        if not any(message["role"] == "tool" for message in call.messages):
            return completion("Hm.", ("textStatistics", {"text": "One. Two."}))
        if HOLD in call.text and call.is_from(SECOND) and call.execution_id not in self.held:
            self.held.add(call.execution_id)
            await self.released.wait()
        return "The work is done."

    async def hold_one_more(self, http: httpx.AsyncClient) -> str:
        """Start a run that is held; its id, once all events before the call that holds it are stored."""
        before = len(self.held)
        root = await start_run(http, f"{HOLD} on.")
        await wait_until(lambda: len(self.held) > before, 40)

        async def are_stored() -> bool:
            return len(of_type(await events_of(http, root), "tool-result")) == 2

        await wait_until(are_stored, 20)
        return root


@dataclass
class Fleet:
    """The API processes of both versions, and the way to start workers, on one database and one Valkey."""

    folder: Path
    settings: dict[str, str]
    ways: dict[str, Start]
    studio: Studio = field(default_factory=Studio)
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict[str, httpx.AsyncClient])

    @property
    def old(self) -> httpx.AsyncClient:
        """A client of the API of version 0.1.0."""
        return self.clients["old"]

    @property
    def new(self) -> httpx.AsyncClient:
        """A client of this version's API."""
        return self.clients["new"]

    def starting(self, version: str, command: str) -> AbstractAsyncContextManager[ServeProcess]:
        """Start a process of a version in a directory of its own."""
        directory = self.folder / f"{version}-{command}-{len(list(self.folder.iterdir()))}"
        directory.mkdir()
        own = {"DATA_DIR": str(directory / "data"), "SERVE_RUNS": str(command != "serve").lower()}
        return serving(directory, command, self.ways[version], **self.settings, **own)

    @asynccontextmanager
    async def serving_both(self) -> AsyncGenerator["Fleet"]:
        """Serve the API in both versions; the earlier one finds an empty database."""
        async with AsyncExitStack() as stack:
            for version in ("old", "new"):
                process = await stack.enter_async_context(self.starting(version, "serve"))
                client = httpx.AsyncClient(
                    base_url=process.url, headers={"X-API-Key": ADMIN_KEY}, timeout=60, verify=WITHOUT_ROOTS
                )
                self.clients[version] = await stack.enter_async_context(client)
            yield self


async def start_run(http: httpx.AsyncClient, prompt: str) -> str:
    """Start a department run; its id."""
    answer = await http.post(f"/api/v1/departments/{DEPARTMENT}/runs", json={"prompt": prompt, "project": PROJECT})
    assert answer.status_code == 202, answer.text
    return answer.json()["executionId"]


async def events_of(http: httpx.AsyncClient, execution_id: str) -> list[Json]:
    """The stored events of a tree."""
    answer = await http.get(f"/api/v1/executions/{execution_id}/events", params={"limit": 200})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def streamed(http: httpx.AsyncClient, execution_id: str, after: int = 0) -> list[Json]:
    """The events of a tree after a number as its stream delivers them until the tree has ended."""
    path, headers = f"/api/v1/executions/{execution_id}/events/stream", {"Last-Event-ID": str(after)}
    answer = await http.get(path, headers=headers, timeout=TAKEOVER_SECONDS)
    assert answer.status_code == 200, answer.text
    frames = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n") if line.startswith("data: ")]
    return [frame for frame in frames if "seq" in frame]


async def until_it_is(status: str, http: httpx.AsyncClient, execution_id: str) -> None:
    """Wait for a run to end in this way."""

    async def has_ended() -> bool:
        found = (await http.get(f"/api/v1/executions/{execution_id}")).json()["status"]
        assert found in ("pending", "running", status)
        return found == status

    await wait_until(has_ended, TAKEOVER_SECONDS)


async def until_recorded(fleet: Fleet, root: str) -> None:
    """Wait until the audit log has the end of a run."""
    ends = {"action": "execution.end", "target": f"execution/{root}"}

    async def is_recorded() -> bool:
        return bool((await fleet.new.get("/api/v1/audit", params=ends)).json()["items"])

    await wait_until(is_recorded, 20)


async def suspected(fleet: Fleet) -> str | None:
    """The first run that differs from the audit log, if any."""
    found = (await fleet.new.get("/api/v1/audit/verify")).json()
    assert found["ok"] == (found["firstBad"] is None)
    return None if found["ok"] else found["firstBad"]["executionId"]


def has_ledger(events: list[Json]) -> bool:
    """Whether the events have the rows of the ledger, which version 0.1.0 does not write."""
    return any("calls" in event for event in events)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """The way to start version 0.1.0."""
    folder = tmp_path_factory.mktemp("earlier")
    try:
        return install(check_out(folder / "source"), folder / "environment")
    except NotInThisClone as error:
        pytest.skip(f"the commit of version 0.1.0 is missing: {error}")


@pytest.fixture(scope="module")
async def module_fleet(
    earlier: Start,
    mongod_uri: str,
    session_valkey: ValkeyProcess,
    shared_model_server: ModelServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[Fleet]:
    """Both APIs on one database."""
    folder = tmp_path_factory.mktemp("fleet")
    config = write_models_config(folder / "models.yaml", shared_model_server.url, timeout=MODEL_SECONDS)
    settings = {
        "MONGODB_URI": mongod_uri.replace("/?", f"/test_{next(DATABASE_NUMBERS)}?"),
        "REDIS_URL": session_valkey.url,
        "MODELS_CONFIG": str(config),
        "ADMIN_API_KEY": ADMIN_KEY,
        "SEED_ON_START": "true",
        "TOOL_WORKERS": "1",
    }
    async with Fleet(folder, settings, {"old": earlier, "new": QUICKLY}).serving_both() as fleet:
        yield fleet
        fleet.studio.released.set()


@pytest.fixture
def fleet(module_fleet: Fleet, model_server: ModelServer) -> Fleet:
    """Both APIs, and the models."""
    model_server.on("work", module_fleet.studio.work)
    model_server.on("plan", plan_of((FIRST, "Begin.", []), (SECOND, "Continue.", [FIRST])))
    return module_fleet


async def check_takeover(fleet: Fleet, root: str, begun: list[Json]) -> None:
    """A tree that one version began and the other finished is complete, and the same in both APIs."""
    events = await events_of(fleet.new, root)
    assert events[: len(begun)] == begun
    assert events[len(begun)]["type"] == "agent-retry"
    assert gapless(events)
    assert len(of_type(events, "tool-result")) == 2  # no call whose result was stored is made again
    assert types_of(events)[-2:] == ["department-complete", "agent-complete"]
    assert await events_of(fleet.old, root) == events


async def test_this_version_continues_the_runs_of_a_killed_worker_of_the_earlier_one(fleet: Fleet) -> None:
    async with fleet.starting("old", "worker") as worker:
        cancelled = await fleet.studio.hold_one_more(fleet.old)
        assert (await fleet.new.post(f"/api/v1/executions/{cancelled}/cancel")).status_code in (200, 202)
        await until_it_is("cancelled", fleet.old, cancelled)
        root = await fleet.studio.hold_one_more(fleet.new)
        begun = await events_of(fleet.old, root)
        assert not has_ledger(begun)
        worker.process.kill()

    async with fleet.starting("new", "worker"):
        # The follower read the beginning in the earlier API and resumes in the new one, as after the API's replacement.
        rest = await streamed(fleet.new, root, after=begun[-1]["seq"])
        await until_it_is("completed", fleet.old, root)
    await check_takeover(fleet, root, begun)
    assert begun + rest == await events_of(fleet.old, root)


async def test_the_earlier_version_continues_the_runs_of_a_stopped_worker_of_this_one(fleet: Fleet) -> None:
    async with fleet.starting("new", "worker") as worker:
        cancelled = await fleet.studio.hold_one_more(fleet.new)
        assert (await fleet.old.post(f"/api/v1/executions/{cancelled}/cancel")).status_code in (200, 202)
        await until_it_is("cancelled", fleet.new, cancelled)
        ended = await start_run(fleet.old, "Write.")
        await until_it_is("completed", fleet.new, ended)
        await until_recorded(fleet, ended)
        root = await fleet.studio.hold_one_more(fleet.old)
        begun = await events_of(fleet.new, root)
        assert has_ledger(begun)
        assert await worker.stop() == 0

    async with fleet.starting("old", "worker"):
        await until_it_is("completed", fleet.new, root)
        await check_revision(fleet, ended)
    await check_takeover(fleet, root, begun)


async def check_revision(fleet: Fleet, root: str) -> None:
    """A worker of version 0.1.0 revises a run of this version; the audit log matches once this version reviews it."""
    before = await events_of(fleet.new, root)
    tree = (await fleet.new.get(f"/api/v1/executions/{root}/tree")).json()
    child = tree["children"][0]["executionId"]
    notes = {"status": "revision-needed", "notes": "Warmer."}
    sent_back = await fleet.new.post(f"/api/v1/executions/{child}/review", json=notes)
    assert sent_back.status_code == 202, sent_back.text

    async def is_revised() -> bool:
        added = (await events_of(fleet.new, root))[len(before) :]
        return any((event["type"], event["executionId"]) == ("agent-complete", root) for event in added)

    await wait_until(is_revised, TAKEOVER_SECONDS)
    events = await events_of(fleet.new, root)
    assert events[: len(before)] == before
    assert gapless(events)
    assert await events_of(fleet.old, root) == events
    assert not has_ledger(events[len(before) :])
    assert await suspected(fleet) == root
    assert (await fleet.new.post(f"/api/v1/executions/{root}/review", json={"status": "approved"})).status_code == 200
    assert await suspected(fleet) is None


async def run_load(fleet: Fleet) -> tuple[list[str], list[asyncio.Task[list[Json]]]]:
    """Start runs in both APIs, each followed in the other API; the ids and the followers."""
    clients = [fleet.old, fleet.new] * (RUNS // 2)
    roots = await asyncio.gather(*(start_run(http, f"Write {number}.") for number, http in enumerate(clients)))
    others = [fleet.new, fleet.old] * (RUNS // 2)
    return roots, [asyncio.create_task(streamed(http, root)) for http, root in zip(others, roots, strict=True)]


async def check_load(fleet: Fleet, roots: list[str], followers: list[asyncio.Task[list[Json]]]) -> set[bool]:
    """All runs complete, and all followers and both APIs deliver the same events; which of them have ledger rows."""
    for root in roots:
        await until_it_is("completed", fleet.new, root)
    ledgers: set[bool] = set()
    for root, follower in zip(roots, followers, strict=True):
        events = await events_of(fleet.new, root)
        assert gapless(events)
        assert await follower == events
        assert await events_of(fleet.old, root) == events
        ledgers.add(has_ledger(events))
    return ledgers


async def test_workers_of_both_versions_share_the_load_until_the_earlier_one_is_replaced(fleet: Fleet) -> None:
    async with fleet.starting("new", "worker"), fleet.starting("old", "worker") as worker:
        assert await check_load(fleet, *await run_load(fleet)) == {True, False}

        roots, followers = await run_load(fleet)
        assert await worker.stop() == 0
        assert True in await check_load(fleet, roots, followers)

        roots, followers = await run_load(fleet)
        assert await check_load(fleet, roots, followers) == {True}
        await check_audit(fleet, roots[0])


async def check_audit(fleet: Fleet, root: str) -> None:
    """The log shows changes of a recorded run by version 0.1.0: a review until it is repeated, a deletion for good."""
    path = f"/api/v1/executions/{root}"
    await until_recorded(fleet, root)
    assert await suspected(fleet) is None
    assert (await fleet.old.post(f"{path}/review", json={"status": "approved"})).status_code == 200
    assert await suspected(fleet) == root
    assert (await fleet.new.post(f"{path}/review", json={"status": "approved"})).status_code == 200
    assert await suspected(fleet) is None
    assert (await fleet.old.delete(path)).status_code == 204
    assert await suspected(fleet) == root


async def test_keys_are_valid_in_both_versions_and_revoked_in_both(fleet: Fleet) -> None:
    for maker, other in ((fleet.old, fleet.new), (fleet.new, fleet.old)):
        key = (await maker.post("/api/v1/api-keys", json={"name": "studio", "role": "runner"})).json()
        found = [await http.get("/api/v1/me", headers={"X-API-Key": key["key"]}) for http in (maker, other)]
        assert [(answer.status_code, answer.json()["name"]) for answer in found] == [(200, "studio")] * 2
        assert (await other.delete(f"/api/v1/api-keys/{key['id']}")).status_code == 204

        async def is_refused(key: str = key["key"], http: httpx.AsyncClient = maker) -> bool:
            return (await http.get("/api/v1/me", headers={"X-API-Key": key})).status_code == 401

        await wait_until(is_refused, 20)


async def test_the_earlier_version_preserves_unknown_fields(fleet: Fleet) -> None:
    path = f"/api/v1/agents/{FIRST}"
    unknown = {"approvalTools": ["textStatistics"], "qualityCriteria": ["Keep the tone."]}
    assert (await fleet.new.patch(path, json=unknown)).status_code == 200
    before = (await fleet.new.get(path)).json()

    edited = await fleet.old.patch(path, json={"description": "Writes what people say."})
    after = (await fleet.new.get(path)).json()
    cleared = await fleet.new.patch(path, json={"approvalTools": [], "qualityCriteria": []})

    assert (edited.status_code, cleared.status_code) == (200, 200)
    assert after["description"] == "Writes what people say."
    assert {name: before[name] for name in unknown} == unknown
    assert {name: after[name] for name in unknown} == unknown

# pyright: reportPrivateUsage=false
# To die, a process must be cut off inside.
"""One service for the run tests, with a small department of its own beside the seeds, and ways to look at its runs.

For take-overs there are processes: run engines of their own on the same database, which can die without a word.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from beanie import init_beanie

from app.database.connection import DOCUMENTS, Raw
from app.events.log.tree_log import TreeLost
from app.models.agent import Agent, ToolNameRow
from app.models.agent_execution import AgentExecution
from app.models.api_key import Role
from app.models.custom_tool import CustomTool
from app.models.department import Department
from app.services.access.api_keys import Caller
from app.services.runs.accept.schemas import OrchestrationCreate, RunCreate
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.engine.timings import Timings
from app.services.runs.engine.wakeups import OpenWakeups
from app.services.runs.work.model_calls import RetryPauses
from app.settings import CATALOGUE_MODELS
from tests.conftest import ADMIN_KEY, PROJECT, Service, running_service
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion

ADA, BOB, CYD, HEAD = "ada-001", "bob-001", "cyd-001", "writers-head-001"
SPECIALISTS = (ADA, BOB, CYD)
DEPARTMENT = "writers"
PRICED_MODEL = "openai/gpt-4-turbo"
"""A millionth of a dollar for each token in, two for each token out."""
IMPATIENT_MODEL = "openai/gpt-4"
"""Times out after 0.3 s."""
STREAMED_MODEL = "anthropic/claude-3-opus"
ROOMY_MODEL = "anthropic/claude-3-haiku"
"""Takes 100,000 tokens, so that several outputs are judged in one call."""
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CALLER = Caller("tests", Role.ADMIN)
TERMINAL = ("completed", "failed", "cancelled")
TOOLS = {
    "echo": "(input) => input",
    "fail": "(input) => { throw new Error('the well is dry') }",
    "hang": "(input) => { for (;;) {} }",
    "tellContext": "(input, context) => context",
}
ENTRY_SETTINGS: dict[str, Json] = {
    PRICED_MODEL: {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
    IMPATIENT_MODEL: {"timeout": 0.3},
    STREAMED_MODEL: {"stream": True},
}


def write_models(path: Path, url: str) -> Path:
    """A MODELS_CONFIG in which each catalogue name asks the server for a model of its own: `scripted-NAME`."""
    rows = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/scripted-{name.partition('/')[2]}",
                "api_base": f"{url}/v1",
                "api_key": "key-of-the-tests",
                **ENTRY_SETTINGS.get(name, {}),
            },
            **({"model_info": {"max_input_tokens": 100_000}} if name == ROOMY_MODEL else {}),
        }
        for name in CATALOGUE_MODELS
    ]
    settings = {"num_retries": 0, "timeout": 20, "disable_cooldowns": True}
    path.write_text(yaml.safe_dump({"model_list": rows, "router_settings": settings}))
    return path


@pytest.fixture(scope="session")
async def runs_service(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Service]:
    """The service behind `service`."""
    folder = tmp_path_factory.mktemp("runs-service")
    config = write_models(folder / "models.yaml", shared_model_server.url)
    uri = mongod_uri.replace("/?", "/test_runs?")
    async with running_service(uri, folder / "data", models_config=config) as running:
        await insert_department()
        yield running


@pytest.fixture
async def service(runs_service: Service, model_server: ModelServer) -> Service:
    """The one service of this folder's tests: a start costs a second, and each test leaves the catalogue as it was."""
    await init_beanie(database=runs_service.services.database, document_models=list(DOCUMENTS), skip_indexes=True)
    return runs_service


async def insert_department() -> None:
    """The writers: a head, three specialists whose work is reviewed, and tools of every temper."""
    department = Department(slug=DEPARTMENT, name="Writers", priority=9)
    await department.insert()
    for name, code in TOOLS.items():
        await CustomTool(tool_name=name, description=name, execute_function=code, is_global=True).insert()
    for agent_id in (HEAD, *SPECIALISTS):
        agent = Agent(
            agent_id=agent_id,
            name=agent_id.partition("-")[0].title(),
            department=department.id,
            is_department_head=agent_id == HEAD,
            model="anthropic/claude-sonnet-4.5",
            instructions_prompt=f"You are {agent_id}.",
            tool_names=[ToolNameRow(tool_name=name, id=str(department.id)) for name in ("textStatistics", *TOOLS)],
            requires_review=agent_id != HEAD,
        )
        await agent.insert()


class Catalogue:
    """Edits of the catalogue that are taken back when the test ends."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before: list[tuple[str, Raw]] = []

    async def edit_agent(self, agent_id: str, **fields: Any) -> None:  # noqa: ANN401 - any stored value
        """Set fields of an agent, by their stored names."""
        await self._edit("agents", {"agentId": agent_id}, fields)

    async def edit_specialists(self, **fields: Any) -> None:  # noqa: ANN401 - any stored value
        """Set fields of all three specialists."""
        for agent_id in SPECIALISTS:
            await self.edit_agent(agent_id, **fields)

    async def edit_department(self, slug: str, /, **fields: Any) -> None:  # noqa: ANN401 - any stored value
        """Set fields of a department, by their stored names."""
        await self._edit("departments", {"slug": slug}, fields)

    async def edit_tool(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - any stored value
        """Set fields of a custom tool."""
        await self._edit("custom-tools", {"toolName": name}, fields)

    async def _edit(self, collection: str, selector: Raw, fields: Raw) -> None:
        before = await self._service.services.database[collection].find_one_and_update(selector, {"$set": fields})
        assert before is not None
        self._before.append((collection, before))
        self._service.services.engine.loader.forget_all()

    async def restore(self) -> None:
        """Take all edits back, the last one first."""
        for collection, document in reversed(self._before):
            await self._service.services.database[collection].replace_one({"_id": document["_id"]}, document)
        self._service.services.engine.loader.forget_all()


@pytest.fixture
async def catalogue(service: Service) -> AsyncGenerator[Catalogue]:
    """A way to edit the catalogue for one test."""
    edits = Catalogue(service)
    yield edits
    await edits.restore()


async def stored(service: Service, execution_id: str) -> Raw:
    """An execution's document as it stands in MongoDB."""
    found = await service.services.database[AgentExecution.get_collection_name()].find_one(
        {"executionId": execution_id}
    )
    assert found is not None
    return found


async def stored_tree(service: Service, root_id: str) -> dict[str, Raw]:
    """The documents of a tree by agent."""
    database = service.services.database
    agents = {raw["_id"]: raw["agentId"] async for raw in database["agents"].find({})}
    found = database[AgentExecution.get_collection_name()].find({"rootExecutionId": root_id})
    return {agents[raw["agent"]]: raw async for raw in found}


async def tree_of(service: Service, execution_id: str) -> Json:
    """The run tree as the API shows it."""
    return (await service.http.get(f"/api/v1/executions/{execution_id}/tree")).json()


def nodes_of(tree: Json) -> list[Json]:
    """A tree's nodes, parents before children."""
    return [tree, *(node for child in tree["children"] for node in nodes_of(child))]


def first_then(first: Reply, *others: Reply) -> Callable[[Call], Reply]:
    """A script that answers the first call with `first`, the next ones with `others`, and repeats the last."""
    replies = iter((first, *others[:-1]))
    last = (first, *others)[-1]
    return lambda _: next(replies, last)


def calls_tool(name: str, arguments: Any, then: str = "Done.") -> Callable[[Call], Reply]:  # noqa: ANN401 - any JSON
    """A script that calls one tool and then answers."""
    return first_then(completion(None, (name, arguments)), then)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that no event tells of, half a minute at most."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what happens on the other side of a socket sets no event here
            await asyncio.sleep(0.005)


def types_of(events: list[Json]) -> list[str]:
    """The events' types, in order."""
    return [event["type"] for event in events]


def of_type(events: list[Json], wanted: str) -> list[Json]:
    """The events of one type."""
    return [event for event in events if event["type"] == wanted]


def stages(events: list[Json]) -> list[tuple[str, str | None, int, int]]:
    """The progress that the events tell: stage, department, done, total."""
    return [
        (event["stage"], event.get("departmentSlug"), event["done"], event["total"])
        for event in of_type(events, "orchestrator-progress")
    ]


async def all_events(service: Service, execution_id: str) -> list[Json]:
    """All stored events of an execution, page by page."""
    events: list[Json] = []
    while True:
        query = {"after": events[-1]["seq"] if events else 0, "limit": 200}
        answer = await service.http.get(f"/api/v1/executions/{execution_id}/events", params=query)
        page = answer.json()["items"]
        events += page
        if not page:
            return events


@pytest.fixture
async def lone_processes(service: Service) -> AsyncGenerator[None]:
    """The service's own engine neither renews leases nor takes runs: only the tests' processes do."""
    await stop_lease_renewal(service.services.engine)
    yield
    await service.services.engine.start()


StartProcess = Callable[..., Awaitable[RunEngine]]
DEFAULT_LIMITS = RunLimits()
EAGER = Timings(renew_every_seconds=0.1, look_every_seconds=0.1)
"""The timings of the tests' processes, which look often."""


@pytest.fixture
async def start_process(service: Service) -> AsyncGenerator[StartProcess]:
    """Start a process that runs the executions it accepts and takes over abandoned ones."""
    engines: list[RunEngine] = []
    parts = service.services

    async def start(
        limits: RunLimits = DEFAULT_LIMITS, timings: Timings = EAGER, open_wakeups: OpenWakeups | None = None
    ) -> RunEngine:
        own = parts.engine
        engine = RunEngine(
            parts.database, parts.bus, own.loader, own.context, own.outbox, limits, timings, open_wakeups
        )
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in engines:
        await die(engine)


def pause_less(service: Service, monkeypatch: pytest.MonkeyPatch, first_seconds: float) -> None:
    """Let the service's runs repeat model calls after shorter pauses."""
    engine = service.services.engine
    context = dataclasses.replace(engine.context, retry_pauses=RetryPauses(first_seconds=first_seconds))
    monkeypatch.setattr(engine, "runner", dataclasses.replace(engine.runner, context=context))


class Gate:
    """A place in a script where calls wait until the test lets them pass."""

    def __init__(self) -> None:
        self.waiting = 0
        self._open = asyncio.Event()

    async def passed(self, reply: Reply) -> Reply:
        """The reply, once the gate is open."""
        self.waiting += 1
        await self._open.wait()
        return reply

    def open(self) -> None:
        """Let everybody pass, now and from now on."""
        self._open.set()


@pytest.fixture
async def gate() -> AsyncGenerator[Gate]:
    """A gate that is open at the latest when the test ends."""
    gate = Gate()
    yield gate
    gate.open()


def subfolder(folder: Path, name: str) -> Path:
    """A new folder for one process."""
    (folder / name).mkdir()
    return folder / name


def process_settings(service: Service, folder: Path, model_server: ModelServer) -> dict[str, str]:
    """The settings of a process on the service's database and on the test's models."""
    return {
        "MONGODB_URI": service.database_uri,
        "MODELS_CONFIG": str(write_models(folder / "models.yaml", model_server.url)),
        "ADMIN_API_KEY": ADMIN_KEY,
        "SEED_ON_START": "false",
        "TOOL_WORKERS": "1",
    }


async def stop_lease_renewal(engine: RunEngine) -> None:
    """No lease is renewed and no lost run taken up any more."""
    await engine.dispatcher.stop()
    await engine.lease_renewer.stop()


async def die(engine: RunEngine) -> None:
    """End all that a process does, at once and without a word to the database."""
    await stop_lease_renewal(engine)
    owned = list(engine.owned)
    for one in owned:
        one.log._lost = TreeLost("The process died.")  # what was not stored yet never is
        one.stop()
    await asyncio.gather(*(one.task for one in owned if one.task), return_exceptions=True)


async def accept(service: Service, engine: RunEngine, kind: str, **body: Any) -> str:  # noqa: ANN401 - any field
    """Have a process accept a run of Ada, of the department, or of several departments; its id."""
    starter = dataclasses.replace(service.services.starter, engine=engine)
    if kind == "orchestration":
        asked = OrchestrationCreate.model_validate({"prompt": "Write.", "project": PROJECT, **body})
        return (await starter.start_orchestration(asked, CALLER)).root.execution_id
    request = RunCreate.model_validate({"prompt": "Write.", "project": PROJECT, **body})
    if kind == "agent":
        return (await starter.start_agent_run(ADA, request, CALLER)).root.execution_id
    return (await starter.start_department_run(DEPARTMENT, request, CALLER)).root.execution_id


async def expire(service: Service, execution_id: str, **changes: Any) -> None:  # noqa: ANN401 - any stored value
    """Let a lease run out, as if its owner had been silent for long."""
    executions = service.services.database[AgentExecution.get_collection_name()]
    await executions.update_one({"executionId": execution_id}, {"$set": {"lease.until": LONG_AGO, **changes}})


async def finished(service: Service, execution_id: str) -> Raw:
    """The root's document once it has ended."""
    return await stored_once(service, execution_id, lambda document: document["status"] in TERMINAL)


async def stored_once(service: Service, execution_id: str, condition: Callable[[Raw], bool]) -> Raw:
    """The document once a condition holds, within fifteen seconds."""
    async with asyncio.timeout(15):
        while not condition(document := await stored(service, execution_id)):  # noqa: ASYNC110 - others store it
            await asyncio.sleep(0.02)
    return document


def gapless(events: list[Json]) -> bool:
    """Whether the numbers are 1, 2, 3 and so on."""
    return [event["seq"] for event in events] == list(range(1, len(events) + 1))

"""Write `version-0.1.0.json`: a small database, as version 0.1.0 of the service leaves it while a run is in progress.

`python -m tests.upgrades.write_database` checks the commit of that version out into a temporary directory, starts it
with an embedded mongod and a scripted model server, and lets it run: a department to its end, an agent to its end, an
agent that fails, and a department whose last specialist never hears from its model. Then it stores every document and
every index as MongoDB extended JSON, while that department still runs.
"""

import asyncio
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from bson import json_util
from pymongo import AsyncMongoClient

from app.database.embedded.credentials import MongodCredentials
from tests.fixtures.earlier_release import COMMIT, VERSION, check_out, install
from tests.fixtures.model_server import (
    Call,
    Json,
    ModelServer,
    Reply,
    completion,
    fault,
    model_server_app,
    plan_of,
    serve_app,
    stop_server,
)
from tests.fixtures.processes import serving
from tests.fixtures.services import ADMIN_KEY, PROJECT, write_models_config
from tests.fixtures.waiting import wait_until

TARGET = Path(__file__).with_name(f"version-{VERSION}.json")
DEPARTMENT = "letters"
HEAD, ADA, BOB = "letters-head-001", "ada-001", "bob-001"
TOOL = "countWords"
WAITING = "Wait for Bob."
FAILING = "Fail."
MONTH_SECONDS = 31 * 24 * 3600
NEVER = asyncio.Event()


def has_result(call: Call) -> bool:
    """Whether a tool's result is in the messages, which that version did not fence."""
    return any(message["role"] == "tool" for message in call.messages)


def is_bobs_last(call: Call) -> bool:
    """Whether it is the call that is never answered."""
    return WAITING in call.text and call.is_from(BOB) and has_result(call)


async def work(call: Call) -> Reply:
    """A tool call and an answer; one run fails after its tool call, and one waits for Bob."""
    if is_bobs_last(call):
        await NEVER.wait()
    if not has_result(call):
        return completion("Let me count.", (TOOL, {"text": "Dear reader"}))
    if FAILING in call.text:
        return fault(400, "the scripted model refuses")
    return "Dear reader, all is well."


async def create_catalog(http: httpx.AsyncClient) -> str:
    """A department with a head, two specialists and a tool; returns a new API key."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    code = "(input) => ({ words: input.text.split(' ').length })"
    tool = {"toolName": TOOL, "displayName": "Count words", "description": "Counts words.", "isGlobal": True}
    agent = {"department": DEPARTMENT, "model": "anthropic/claude-sonnet-4.5", "toolNames": [TOOL]}
    names = ((HEAD, "Head", True), (ADA, "Ada", False), (BOB, "Bob", False))
    bodies: list[tuple[str, Json]] = [
        ("departments", {"slug": DEPARTMENT, "name": "Letters", "description": "Writes letters.", "priority": 3}),
        ("custom-tools", {**tool, "inputSchema": schema, "executeFunction": code}),
        *(
            ("agents", {**agent, "agentId": agent_id, "name": name, "description": f"{name} writes letters.",
                        "isDepartmentHead": head, "instructionsPrompt": f"You are {name}. Write letters.",
                        "requiresReview": not head})
            for agent_id, name, head in names
        ),
    ]  # fmt: skip
    for path, body in bodies:
        answer = await http.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
    answer = await http.post("/api/v1/api-keys", json={"name": "studio", "role": "runner"})
    return str(answer.json()["key"])


async def run(http: httpx.AsyncClient, path: str, prompt: str, wait: str = "wait=60") -> Json:
    """Start a run, and wait for its end."""
    body = {"prompt": prompt, "project": PROJECT, "conversationId": "thread-1"}
    answer = await http.post(f"/api/v1/{path}/runs", json=body, headers={"Prefer": wait})
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


async def write_runs(http: httpx.AsyncClient, server: ModelServer) -> dict[str, str]:
    """Run all that the database is to hold; the ids of the roots."""
    server.on("work", work)
    server.on("plan", plan_of((ADA, "Write the first letter.", []), (BOB, "Write the second letter.", [ADA])))
    done = await run(http, f"departments/{DEPARTMENT}", "Write two letters.")
    alone = await run(http, f"agents/{ADA}", "Write a letter.")
    failed = await run(http, f"agents/{ADA}", FAILING)
    running = await run(http, f"departments/{DEPARTMENT}", WAITING, "respond-async")

    async def waits_for_bob() -> bool:
        return any(map(is_bobs_last, server.calls))

    await wait_until(waits_for_bob, 60)
    await asyncio.sleep(1)  # the events before that call are stored
    assert [one["status"] for one in (done, alone, failed)] == ["completed", "completed", "failed"]
    return {"done": done["executionId"], "alone": alone["executionId"], "failed": failed["executionId"],
            "running": running["executionId"]}  # fmt: skip


async def dump(data_dir: Path) -> dict[str, Any]:
    """Every collection's documents and indexes."""
    port = int((data_dir / "mongod.port").read_text())
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(MongodCredentials(data_dir).uri(port), tz_aware=True)
    async with client:
        database = client["dynamic_agents"]
        found: dict[str, Any] = {}
        for name in sorted(await database.list_collection_names()):
            indexes = [index async for index in await database[name].list_indexes()]
            found[name] = {"indexes": indexes, "documents": [one async for one in database[name].find()]}
    return found


def laid_out(value: Any, depth: int = 0) -> str:  # noqa: ANN401 - any JSON
    """The JSON text, with a line for each document, index and event."""
    pad = " " * (depth + 1)
    if isinstance(value, dict) and depth < 3:
        rows = [f"{pad}{json.dumps(name)}: {laid_out(one, depth + 1)}" for name, one in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}" + ("" if depth else "\n")
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"{pad}{json.dumps(one)}" for one in value) + "\n" + " " * depth + "]"
    return json.dumps(value)


async def write_database() -> None:
    """Write the file."""
    server = ModelServer()
    running, task, server.url = await serve_app(model_server_app(server))
    with tempfile.TemporaryDirectory(prefix="version-0.1-") as directory:
        folder = Path(directory)
        start = install(check_out(folder / "source"), folder / "environment")
        settings = {
            "DATA_DIR": str(folder / "data"),
            "MODELS_CONFIG": str(write_models_config(folder / "models.yaml", server.url, timeout=120)),
            "ADMIN_API_KEY": ADMIN_KEY,
            "SEED_ON_START": "false",
            "MAX_RUN_SECONDS": str(MONTH_SECONDS),
        }
        async with serving(folder, "serve", start, **settings) as service:
            headers = {"X-API-Key": ADMIN_KEY}
            async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=90) as http:
                key = await create_catalog(http)
                roots = await write_runs(http, server)
                replays: dict[str, Any] = {}
                for name, root in roots.items():
                    page = await http.get(f"/api/v1/executions/{root}/events", params={"limit": 200})
                    assert page.status_code == 200, page.text
                    replays[name] = page.json()["items"]
            stored = await dump(folder / "data")
            service.process.kill()
    header = {
        "madeBy": f"python -m tests.upgrades.write_database, which runs version {VERSION} from its commit",
        "version": VERSION,
        "commit": COMMIT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": "All but 'running' have ended; its owner had just called the model for its second specialist.",
        "roots": roots,
        "apiKey": key,
    }
    content = {"header": header, "events": replays, "collections": stored}
    TARGET.write_text(laid_out(json.loads(json_util.dumps(content, json_options=json_util.CANONICAL_JSON_OPTIONS))))
    await stop_server(running, task)


if __name__ == "__main__":
    asyncio.run(write_database())

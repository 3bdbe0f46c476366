"""The soak: runs under steady load while random processes are killed or frozen, and every promise checked afterwards.

`python -m benchmarks.soak`, for `SOAK_SECONDS` (60). Leaves with 1 when a promise did not hold. An empty
`SOAK_DIRECTORY` keeps the logs, the data and what the model server saw.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import aiohttp
import orjson
from aiohttp import web
from rich.console import Console

from app.database.connection import bind_documents, connect
from benchmarks.children import free_port
from benchmarks.service import MODEL_NAME
from benchmarks.soak.clients import Clients
from benchmarks.soak.models import ModelLog
from benchmarks.soak.parts import PART_NAME, Cluster, cluster_in
from benchmarks.soak.tools import EFFECTIVE, EFFECTS_PATH, PURE, REPEATABLE, EffectLog, tools
from benchmarks.soak.verdict import MAX_SHOWN, Evidence, Verdict, judge
from benchmarks.tables import table_of

START_EVERY_SECONDS = 0.25
SETTLE_SECONDS = 120.0
DEPARTMENT, HEAD, AGENT = "soak", "soak-head-001", "soak-agent-001"


def agent(agent_id: str, *tool_names: str, is_head: bool = False) -> dict[str, object]:
    """An agent of the soak."""
    return {
        "agentId": agent_id,
        "name": agent_id,
        "description": "Of the soak.",
        "department": DEPARTMENT,
        "isDepartmentHead": is_head,
        "model": MODEL_NAME,
        "instructionsPrompt": "Work.",
        "toolNames": tool_names,
        "requiresReview": not is_head,
    }


async def soak(seconds: float, directory: Path, console: Console) -> bool:
    """Everything, from the first start to the verdict; whether all held."""
    models, effects = ModelLog(), EffectLog()
    application = web.Application()
    application.router.add_post(EFFECTS_PATH, effects.answer)
    application.router.add_post("/v1/chat/completions", models.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    config = write_models_config(directory / "models.yaml", port)
    cluster = cluster_in(directory, config, f"127.0.0.1:{port}")
    try:
        await cluster.start()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            clients = Clients(cluster.api.url, http)
            department = {"slug": DEPARTMENT, "name": "Soak", "description": "Of the soak."}
            several = agent(AGENT, EFFECTIVE, REPEATABLE), agent("soak-agent-002", PURE, EFFECTIVE)
            await clients.set_up([agent(HEAD, is_head=True), *several], department, tools(f"http://127.0.0.1:{port}"))
            settled = await run_under_torment(cluster, clients, seconds)
        database = await connect(cluster.mongodb_uri)
        await bind_documents(database)
        evidence = Evidence(clients.runs, clients.keys, models.calls, effects.counts, cluster.freezes)
        keep_evidence(evidence, directory / "evidence.json")
        verdict = await judge(database, evidence)
        await database.client.close()
    finally:
        await cluster.stop()
        await runner.cleanup()
    print_verdict(console, cluster, clients, models, verdict, settled)
    return verdict.holds


async def run_under_torment(cluster: Cluster, clients: Clients, seconds: float) -> float:
    """Load and kills for so long; then the seconds until every run had ended and every follower knew."""
    starting = asyncio.create_task(clients.keep_starting(AGENT, DEPARTMENT, START_EVERY_SECONDS))
    await cluster.torment(seconds)
    loop = asyncio.get_running_loop()
    all_up = loop.time()
    clients.stop_starting()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await starting
    settled = loop.time() - all_up
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return settled


def write_models_config(path: Path, port: int) -> Path:
    """A MODELS_CONFIG with one model, the soak's own, to which each process shows its name."""
    params = {"model": "openai/soak", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": f"os.environ/{PART_NAME}"}
    settings = {"num_retries": 4, "timeout": 30, "disable_cooldowns": True}
    rows = [{"model_name": MODEL_NAME, "litellm_params": params}]
    path.write_text(json.dumps({"model_list": rows, "router_settings": settings}))
    return path


def keep_evidence(evidence: Evidence, path: Path) -> None:
    """Write down what no log and no document tells: the model server's calls and effects, and the freezes."""
    effects = [(*effect, count) for effect, count in evidence.effects.items()]
    path.write_bytes(orjson.dumps({"calls": evidence.calls, "effects": effects, "freezes": evidence.freezes}))


def print_verdict(
    console: Console,
    cluster: Cluster,
    clients: Clients,
    models: ModelLog,
    verdict: Verdict,
    settled: float,
) -> None:
    """The tables."""
    kills = ", ".join(f"{part.name} {part.kills}" for part in cluster.parts)
    freezes = Counter(freeze.name for freeze in cluster.freezes)
    figures = table_of("What happened", "figure")
    for name, value in (
        ("killed", kills),
        ("frozen for longer than the lease", counted(freezes)),
        ("runs accepted", len(clients.runs)),
        ("refused meanwhile, and sent again", clients.refusals),
        ("ended", counted(verdict.statuses)),
        ("errors of failed runs", counted(verdict.errors)),
        ("take-overs", verdict.takeovers),
        ("events stored", verdict.events),
        ("events seen by subscribers", verdict.frames),
        ("model calls answered, and of them lost by kills", f"{verdict.model_calls}, {verdict.lost_calls}"),
        ("model calls that a frozen process sent on waking", verdict.late_calls),
        ("model faults (429, 500)", models.faults),
        ("calls of a tool with an effect", counted(verdict.outcomes_of(EFFECTIVE))),
        ("calls of one that may be repeated", counted(verdict.outcomes_of(REPEATABLE))),
        ("median seconds of a run", f"{verdict.median_seconds:.1f}"),
        ("seconds from all parts up to all runs ended", f"{settled:.1f}"),
    ):
        figures.add_row(name, str(value))
    promises = table_of("What was promised", "broken")
    for name, broken in verdict.broken.items():
        promises.add_row(name, str(len(broken)) + "".join(f"\n{one}" for one in broken[:MAX_SHOWN]))
    console.print(figures, "", promises, sep="\n")


def counted(counts: Counter[str]) -> str:
    """Format counts as a list of names with numbers."""
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def main() -> None:
    """Soak for as long as the environment says."""
    seconds = float(os.environ.get("SOAK_SECONDS", "60"))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"Soaking for {seconds:g} s: one API, two workers, mongod and Valkey, killed or frozen at random.\n")
    with contextlib.ExitStack() as stack:
        kept = os.environ.get("SOAK_DIRECTORY")
        name = kept or stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))
        holds = asyncio.run(soak(seconds, Path(name), console))
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()

"""Streamed model calls: the CPU time of a chunk, with and without merged text events, beside reading alone."""

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import orjson
import structlog
import uvloop
from rich.table import Table

from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.opening import open_models
from app.settings import Settings
from benchmarks.children import running
from benchmarks.stream_server import CHUNKS
from benchmarks.tables import goal, table_of

ROUNDS = 7
GOAL_MS = 0.1
MODEL = "house/model"

Call = Callable[[], Awaitable[None]]


def streams_tables() -> Iterator[Table]:
    """The CPU time of a chunk."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [sys.executable, "-m", "benchmarks.stream_server"]
        with running("stream-server", command, {}, directory) as server:
            server.wait_until_listening()
            yield uvloop.run(chunk_table(f"{server.url}/v1", directory))


async def chunk_table(url: str, directory: Path) -> Table:
    """Each way of reading a stream, in turns."""
    config = directory / "models.yaml"
    params = {"model": "openai/benchmark", "api_key": "unused", "api_base": url}
    config.write_bytes(orjson.dumps({"model_list": [{"model_name": MODEL, "litellm_params": params}]}))
    settings = Settings.load(models_config=config)
    async with open_models(settings, load_model_table(settings)) as models:
        ways = {
            "aiohttp and a JSON parser": lambda: read_alone(url),
            "the service's gateway": lambda: ask(models, merges=True),
            "the same without merged events": lambda: ask(models, merges=False),
        }
        for call in ways.values():
            await call()
        gc.collect()
        gc.freeze()
        rounds = [{name: await cpu_of(call) for name, call in ways.items()} for _ in range(ROUNDS)]
    table = table_of(f"A streamed answer of {CHUNKS:,} chunks, each in a packet of its own", "CPU ms a chunk")
    for name in ways:
        figure = statistics.median(one[name] for one in rounds)
        shown = f"{figure:.3f}"
        table.add_row(name, goal(shown, met=figure <= GOAL_MS) if name == "the service's gateway" else shown)
    return table


async def cpu_of(call: Call) -> float:
    """Milliseconds of this process's CPU time for each chunk."""
    before = time.process_time()
    await call()
    return (time.process_time() - before) * 1000 / CHUNKS


async def read_alone(url: str) -> None:
    """Read and parse every chunk, and nothing else."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", json={"stream": True}) as answer,
    ):
        found = [orjson.loads(line[6:]) async for line in answer.content if line.startswith(b"data: {")]
    assert len(found) > CHUNKS


async def ask(models: ModelGateway, *, merges: bool) -> None:
    """Make a call whose text is followed."""
    models.merges_events = merges
    shown: list[str] = []
    messages = [{"role": "user", "content": "Say something long."}]
    await models.complete(ModelRequest(MODEL, messages, RunPurpose.WORK, "exec_benchmark", on_delta=shown.append))
    assert len(shown) == CHUNKS

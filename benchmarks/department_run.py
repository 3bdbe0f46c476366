"""A department run with four specialists: its time beside the critical path of its calls, and the judge's tokens."""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from rich.table import Table

from app.database.opening import open_database
from app.models.catalog.agent import Agent
from app.models.catalog.department import Department
from app.settings import Settings
from benchmarks.children import Child, running
from benchmarks.load import client_session
from benchmarks.service import ADMIN_KEY, PROJECT, running_service, service_environment
from benchmarks.tables import goal, table_of

DEPARTMENT = "studio"
SPECIALISTS = 4
RUNS = 7
PATH_CALLS = 6
"""Calls that wait for each other: plan, work, judge, review, report, the report's judge."""
RATIO_GOAL = 1.15
MODELS = {
    (0, "single"): "studio/0-single",
    (0, "batched"): "studio/0-batched",
    (200, "single"): "studio/200-single",
    (200, "batched"): "studio/200-batched",
}
"""The name of each model: one whose context is known judges several outputs in a call. They are not the names of
`SIMPLE_MODEL` and `STANDARD_MODEL`, so that each model judges its own work."""
CONTEXT_TOKENS = 128_000
Json = dict[str, Any]


@dataclass
class Figures:
    """The figures of the runs on one model: milliseconds, tokens, and the judge's calls and tokens for specialists."""

    milliseconds: list[float] = field(default_factory=list[float])
    tokens: list[int] = field(default_factory=list[int])
    judge_tokens: list[int] = field(default_factory=list[int])
    judged_together: list[int] = field(default_factory=list[int])


def write_models(path: Path, url: str) -> Path:
    """A MODELS_CONFIG with one model for each delay, with and without a known context."""
    rows = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{judging}", "api_base": f"{url}/{delay}/v1", "api_key": "none-needed"},
            "model_info": {"max_input_tokens": CONTEXT_TOKENS} if judging == "batched" else {},
        }
        for (delay, judging), name in MODELS.items()
    ]
    settings = {"num_retries": 0, "timeout": 120, "disable_cooldowns": True}
    path.write_bytes(orjson.dumps({"model_list": rows, "router_settings": settings}))
    return path


async def insert_department(data_dir: Path) -> None:
    """A head and four specialists whose work is reviewed."""
    settings = Settings(_env_file=None, data_dir=data_dir)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    async with open_database(settings, share=True):
        department = await Department(slug=DEPARTMENT, name="Studio").insert()
        for number in range(SPECIALISTS + 1):
            await Agent(
                agent_id=f"studio-{number}",
                name=f"Studio {number}",
                description="Does a part of it.",
                department=department.id,
                is_department_head=number == 0,
                model=MODELS[0, "single"],
                instructions_prompt="You do your part of a film, in sections, in at most 350 words.",
                requires_review=number > 0,
            ).insert()


async def run_once(http: aiohttp.ClientSession, service: Child, model: str, figures: Figures) -> None:
    """One run, waited for; its time, and what its events say of the judge."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    body = {"prompt": "Develop a short film about a lighthouse keeper.", "project": PROJECT, "model": model}
    began = time.perf_counter()
    url = f"{service.url}/api/v1/departments/{DEPARTMENT}/runs"
    async with http.post(url, json=body, headers={**headers, "Prefer": "wait=60"}) as answer:
        done: Json = await answer.json()
    figures.milliseconds.append((time.perf_counter() - began) * 1000)
    assert done["status"] == "completed", done
    async with http.get(f"{service.url}{done['links']['events']}?limit=200", headers=headers) as answer:
        events: list[Json] = (await answer.json())["items"]
    checks = [one for one in events if one["type"] == "quality-check" and one["gate"]["name"] == "specialist"]
    figures.tokens.append(sum(one["usage"]["total"] for one in events if "usage" in one))
    figures.judge_tokens.append(sum(one["usage"]["total"] for one in checks))
    figures.judged_together.append(max(one.get("judgedTogether", 1) for one in checks))


async def measure(service: Child) -> dict[tuple[int, str], Figures]:
    """The models in turns, a run of each a round; the first round warms up and does not count."""
    found = {key: Figures() for key in MODELS}
    async with client_session() as http:
        for turn in range(RUNS + 1):
            for key, model in MODELS.items():
                await run_once(http, service, model, found[key] if turn else Figures())
                await asyncio.sleep(0)
    return found


def department_run_tables() -> Iterator[Table]:
    """A department run by the model's time and by how its specialists are judged."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        directory = Path(name)
        command = [sys.executable, "-m", "benchmarks.studio_server"]
        with running("studio-server", command, {}, directory) as model:
            model.wait_until_ready("/")
            config = write_models(directory / "models.yaml", model.url)
            with running_service(service_environment(directory, config), directory) as service:
                uvloop.run(insert_department(directory / "data"))
                found = uvloop.run(measure(service))
    table = table_of(
        f"A department run with {SPECIALISTS} specialists ({PATH_CALLS} calls in a row at least)",
        "ms median", "critical path", "ratio", "tokens", "judging the specialists", "together",
    )  # fmt: skip
    for (delay, judging), figures in found.items():
        median = statistics.median(figures.milliseconds)
        path = PATH_CALLS * delay
        ratio = median / path if path else None
        table.add_row(
            f"{delay} ms a call, {judging}",
            f"{median:.0f}",
            f"{path}",
            "" if ratio is None else goal(f"{ratio:.2f}", met=ratio <= RATIO_GOAL),
            f"{statistics.median(figures.tokens):.0f}",
            f"{statistics.median(figures.judge_tokens):.0f}",
            f"{statistics.median(figures.judged_together):.0f}",
        )
    yield table

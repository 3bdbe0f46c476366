"""Tokens billed on the reference workload, with the measures that save tokens off, on, and added one by one.

The workload: the six seeded departments, each asked A, B and A again. A cached input token weighs 0.1,
every other token 1; the column "surcharge" adds the quarter that Anthropic charges for tokens written to its cache.
`BENCH_BEFORE` names a checkout of an earlier commit: the first row
then runs its code, because prompts that repeat nothing have no switch. It gets today's seeds, so that all rows have
the same agents.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from rich.table import Table

from benchmarks.children import PROJECT_ROOT, Child, running
from benchmarks.load import client_session
from benchmarks.service import ADMIN_KEY, PROJECT, running_service, service_environment
from benchmarks.tables import goal, table_of

DEPARTMENTS = ("story", "character", "visual", "audio", "video", "production")
BEFORE = os.environ.get("BENCH_BEFORE")
STEPWISE = "anthropic"
"""The wire on which the measures are added one by one; on the other, all of them together."""
READ_WEIGHT, WRITE_SURCHARGE = 0.1, 0.25
ROLL_UP_SECONDS = 3.0
"""How long to wait for the roll-ups, which follow an execution's end within two seconds."""
SAVED_GOAL, HIT_GOAL = 0.6, 0.4
STRONG, LARGER, SMALL = "anthropic/claude-sonnet-4.5", "anthropic/claude-3-opus", "anthropic/claude-3-haiku"
WIRES = {
    "anthropic": ("anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5"),
    "openai": ("openai/gpt-4.1", "openai/gpt-4.1-mini"),
}
"""The models behind the strong and the small name."""
BRIEF = (
    "The keeper has lived alone on the rock for eleven years; his daughter comes back by the supply boat with a letter "
    "that she will not let him read. The light fails in the second night, and a ship is expected in the third. We have "
    "four actors, one location, nine shooting days and 180,000 euros. The tone is dry and quiet, the sea is "
    "never friendly, and no one says aloud what happened to the mother. "
)
PROMPTS = (
    f"Develop a short film of twenty minutes about a lighthouse keeper. {BRIEF * 4}Give us what your department "
    "owes the first production meeting.",
    f"Develop a pilot of fifty minutes from the same material, seen from the daughter's side. {BRIEF * 4}Give us what "
    "your department owes the writers' room.",
)
Json = dict[str, Any]


@dataclass(frozen=True)
class Measures:
    """The measures that are on."""

    lean_prompts: bool = True
    """Prompts repeat nothing, and long outputs are handed on in a bounded form."""
    own_judge: bool = True
    """A small model judges."""
    batch_judging: bool = True
    prompt_caches: bool = True
    response_cache: bool = True


@dataclass(frozen=True)
class Bill:
    """The cost of a workload: the model server's totals, USD by the service's ledger, hits, and the gates' results."""

    totals: Json
    cost_usd: float
    hit_rate: float | None
    gates: list[Json]

    @property
    def billed(self) -> float:
        """The weighted tokens."""
        read = self.totals["read"]
        return self.totals["input"] - read + READ_WEIGHT * read + self.totals["output"]

    @property
    def with_surcharge(self) -> float:
        """The same with Anthropic's surcharge for writing to its cache."""
        return self.billed + WRITE_SURCHARGE * self.totals["written"]


OFF = Measures(False, False, False, False, False)
STEPS: tuple[tuple[str, Measures], ...] = (
    ("all off", OFF),
    ("+ lean prompts", replace(OFF, lean_prompts=True)),
    ("+ batch judging", replace(OFF, lean_prompts=True, batch_judging=True)),
    ("+ a small judge", replace(Measures(), prompt_caches=False, response_cache=False)),
    ("+ prompt caches", replace(Measures(), response_cache=False)),
    ("+ response cache: all on", Measures()),
)


def write_models(path: Path, url: str, wire: str, on: Measures) -> Path:
    """A MODELS_CONFIG with the catalog's strong models and a small one on a wire."""
    kind = "" if wire == "anthropic" else f"/{'cached' if on.prompt_caches else 'plain'}/v1"
    info: Json = {} if on.batch_judging else {"max_input_tokens": 0}
    if not on.prompt_caches:
        info["supports_prompt_caching"] = False
    rows = [
        {
            "model_name": name,
            "litellm_params": {"model": model, "api_base": f"{url}/{wire}{kind}", "api_key": "none-needed"},
            "model_info": info,
        }
        for name, model in served_models(wire).items()
    ]
    settings = {"num_retries": 0, "timeout": 120, "disable_cooldowns": True}
    path.write_bytes(orjson.dumps({"model_list": rows, "router_settings": settings}))
    return path


def served_models(wire: str) -> dict[str, str]:
    """LiteLLM's models of a wire by the names in the catalog; two of the seeded agents name a larger one."""
    strong, small = WIRES[wire]
    return {STRONG: strong, LARGER: strong, SMALL: small}


def environment_of(directory: Path, config: Path, on: Measures) -> dict[str, str]:
    """The settings of a service with these measures."""
    found = service_environment(directory, config) | {"ALLOWED_MODELS": ",".join((STRONG, LARGER, SMALL))}
    if on.response_cache:
        found["RESPONSE_CACHE_TTL_SECONDS"] = "3600"
    if not on.own_judge:
        found["PURPOSE_MODELS"] = f"judge={STRONG}"
    if not on.lean_prompts:
        found["HANDED_ON_CHARACTERS"] = "20000"
        if BEFORE:
            found["PYTHONPATH"] = str(with_todays_seeds(Path(BEFORE), directory))
    return found


def with_todays_seeds(checkout: Path, directory: Path) -> Path:
    """A folder with the code of a checkout beside the seeds of this one."""
    folder = directory / "before"
    folder.mkdir()
    (folder / "app").symlink_to(checkout.resolve() / "app")
    (folder / "seeds").symlink_to(PROJECT_ROOT / "seeds")
    return folder


async def get(http: aiohttp.ClientSession, url: str) -> Json:
    """The JSON at an address of the service."""
    async with http.get(url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def settled(http: aiohttp.ClientSession, url: str) -> Json:
    """The figures at an address, once they no longer change."""
    found: Json = {}
    while found != (latest := await get(http, url)):
        found = latest
        await asyncio.sleep(ROLL_UP_SECONDS)
    return latest


async def run_department(http: aiohttp.ClientSession, service: Child, slug: str, prompt: str) -> Json:
    """A run of a department, waited for."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Prefer": "wait=60"}
    url = f"{service.url}/api/v1/departments/{slug}/runs"
    async with http.post(url, json={"prompt": prompt, "project": PROJECT}, headers=headers) as answer:
        done: Json = await answer.json()
    assert done["status"] == "completed", done
    return done


async def work(service: Child, server: Child) -> Bill:
    """Run the workload."""
    gates: list[Json] = []
    async with client_session() as http:
        async with http.post(f"{server.url}/reset"):
            pass
        before: Json = {}
        for prompt in (PROMPTS[0], PROMPTS[1], PROMPTS[0]):
            before = await settled(http, f"{service.url}/api/v1/analytics/cache")
            for slug in DEPARTMENTS:
                done = await run_department(http, service, slug, prompt)
                gates += [{**gate, "department": slug} for gate in done["output"]["report"]["gates"]]
        after = await settled(http, f"{service.url}/api/v1/analytics/cache")
        usage = await settled(http, f"{service.url}/api/v1/analytics/usage?groupBy=purpose")
        totals = await get(http, f"{server.url}/totals")
    hits, misses = (after[name] - before[name] for name in ("hits", "misses"))
    return Bill(totals, usage["costEstimate"], hits / (hits + misses) if hits + misses else None, gates)


def measure(server: Child, directory: Path, wire: str, on: Measures) -> Bill:
    """Run the workload on a service of its own."""
    folder = Path(tempfile.mkdtemp(dir=directory))
    config = write_models(folder / "models.yaml", server.url, wire, on)
    with running_service(environment_of(folder, config, on), folder) as service:
        return uvloop.run(work(service, server))


def summary(gates: list[Json]) -> list[tuple[str, str, bool, float]]:
    """The gates that a workload's runs passed or not, in an order that does not depend on time."""
    return sorted((one["department"], one["name"], one["passed"], one["score"]) for one in gates)


def economy_tables() -> Iterator[Table]:
    """The tokens of the reference workload on both wires."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        directory = Path(name)
        command = [sys.executable, "-m", "benchmarks.economy_server"]
        with running("economy-server", command, {}, directory) as server:
            server.wait_until_ready("/totals")
            for wire in WIRES:
                yield economy_table(server, directory, wire)


def economy_table(server: Child, directory: Path, wire: str) -> Table:
    """The measures one after the other on a wire."""
    table = table_of(
        f"The reference workload on {wire}'s wire: {len(DEPARTMENTS)} departments, each asked A, B and A again",
        "calls", "input", "of it read", "written", "output", "billed tokens", "of all off", "with surcharge", "USD",
        "hits of A again",
    )  # fmt: skip
    whole: Bill | None = None
    for step, on in STEPS if wire == STEPWISE else (STEPS[0], STEPS[-1]):
        bill = measure(server, directory, wire, on)
        whole = whole or bill
        assert summary(bill.gates) == summary(whole.gates), "the gates' results differ"
        share = bill.billed / whole.billed
        is_last = step == STEPS[-1][0]
        shown = f"{share:.0%}"
        hits = "" if bill.hit_rate is None else f"{bill.hit_rate:.0%}"
        table.add_row(
            step,
            *(f"{bill.totals[column]:,}" for column in ("calls", "input", "read", "written", "output")),
            f"{bill.billed:,.0f}",
            goal(shown, met=share <= 1 - SAVED_GOAL) if is_last else shown,
            f"{bill.with_surcharge / whole.billed:.0%}",
            f"{bill.cost_usd:.2f}",
            goal(hits, met=(bill.hit_rate or 0) > HIT_GOAL) if is_last else hits,
        )
    return table

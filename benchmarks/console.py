"""The console in Chromium: first content, transfer, from append to the page, and pages with much on them.

It needs Chromium. Where npm is at hand too, Lighthouse measures the page of a run.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Browser, Page, async_playwright
from rich.table import Table

from benchmarks.children import Child, running
from benchmarks.service import ADMIN_KEY, service_environment
from benchmarks.tables import goal, table_of
from scripts.npm_packages import npm, wheel_directory

RATE, SECONDS = 200.0, 10.0
TEXT = "The keeper climbs the stairs, and counts them as she does every night. " * 4
EVENTS, EXECUTIONS = 10_000, 500
RUNS = int(os.environ.get("BENCH_RUNS", "100000"))
LIGHTHOUSE = "lighthouse@13.5.0"
CATEGORIES = ("performance", "accessibility")
CONTENT_GOAL_MS, TRANSFER_GOAL_KB, EVENT_GOAL_MS, SCORE_GOAL, FRAME_GOAL_MS = 1000.0, 250.0, 100.0, 95, 50.0
RECORD = """() => {
  window.seen = [];
  let last = 0;
  const look = () => {
    const newest = Number(document.querySelector('.event .seq')?.textContent ?? 0);
    const now = performance.timeOrigin + performance.now();
    for (; last < newest; last += 1) window.seen.push(now);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
SCROLL = """async () => {
  const list = document.querySelector('.virtual');
  const gaps = [];
  let before = performance.now();
  for (let step = 0; step < 120; step += 1) {
    list.scrollTop += 700;
    const now = await new Promise(requestAnimationFrame);
    gaps.push(now - before);
    before = now;
  }
  return gaps.sort((a, b) => a - b)[Math.floor(gaps.length * 0.95)];
}"""
KEYS = """async () => {
  const tree = document.querySelector('[role=treegrid]');
  const gaps = [];
  for (let step = 0; step < 60; step += 1) {
    const start = performance.now();
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown', bubbles: true }));
    const focused = document.activeElement;
    const isLate = () => performance.now() - start > 1000;
    while (document.activeElement === focused && !isLate()) await new Promise(requestAnimationFrame);
    gaps.push(performance.now() - start);
  }
  return gaps.sort((a, b) => a - b)[Math.floor(gaps.length * 0.95)];
}"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
TRANSFERRED = """() => [performance.getEntriesByType('navigation')[0], ...performance.getEntriesByType('resource')]
  .filter((entry) => !entry.name.includes('/api/')).reduce((sum, entry) => sum + entry.transferSize, 0) / 1000"""


@dataclass
class ConsoleBench:
    """A service with a lever, a browser, and a page that is signed in."""

    child: Child
    http: aiohttp.ClientSession
    browser: Browser
    page: Page

    async def pull(self, do: str, **options: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Let the service do something."""
        async with self.http.post(f"{self.child.url}/pull", json={"do": do, **options}) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.json())["result"]

    async def new_page(self) -> Page:
        """Open a page in a browser that has nothing of the console yet, signed in."""
        context = await self.browser.new_context(viewport={"width": 1440, "height": 900})
        await context.add_init_script(f"sessionStorage.setItem('dynamic-agents-key', '{ADMIN_KEY}')")
        return await context.new_page()

    async def opened(self, path: str, ready: str) -> tuple[float, float, float]:
        """Open an address in a fresh browser: ms to the first content, ms until `ready` is there, kilobytes."""
        page = await self.new_page()
        started = time.perf_counter()
        await page.goto(self.child.url + path)
        await page.locator(ready).first.wait_for()
        took = (time.perf_counter() - started) * 1000
        await page.wait_for_timeout(500)
        painted, kilobytes = await page.evaluate(PAINT), await page.evaluate(TRANSFERRED)
        await page.context.close()
        return painted, took, kilobytes

    async def timed(self, path: str, ready: str, text: str = "") -> float:
        """Milliseconds until an address of the signed-in page shows what is waited for."""
        started = time.perf_counter()
        await self.page.goto(self.child.url + path)
        await self.page.locator(ready).filter(has_text=text).first.wait_for(timeout=60_000)
        return (time.perf_counter() - started) * 1000

    async def live_events(self) -> list[float]:
        """Milliseconds from append to the list of the page, of every event, sorted."""
        execution_id = await self.pull("new_tree")
        await self.page.goto(f"{self.child.url}/runs/{execution_id}")
        await self.page.get_by_text("Live", exact=False).first.wait_for()
        await self.page.wait_for_timeout(1000)
        await self.page.evaluate(RECORD)
        offset = time.time_ns() - time.monotonic_ns()
        appended = (await self.pull("append", ids=[execution_id], rate=RATE, seconds=SECONDS, text=TEXT))[execution_id]
        await self.page.wait_for_function("(count) => window.seen.length >= count", arg=len(appended))
        seen: list[float] = await self.page.evaluate("() => window.seen")
        pairs = zip(appended, seen[: len(appended)], strict=True)
        return sorted(moment - (start + offset) / 1e6 for start, moment in pairs)


def console_tables() -> Iterator[Table]:
    """All of them, each as soon as it is measured."""
    with asyncio.Runner() as runner:
        tables = measure()
        while table := runner.run(next_of(tables)):
            yield table


async def next_of(tables: AsyncGenerator[Table]) -> Table | None:
    """Return the next table, if there is one."""
    return await anext(tables, None)


async def measure() -> AsyncGenerator[Table]:
    """Measure on one service."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("This benchmark needs Chromium (Debian's package is `chromium`).")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [sys.executable, "-m", "benchmarks.event_service"]
        with running("event-service", command, service_environment(directory), directory) as child:
            child.wait_until_ready("/healthz")
            timeout = aiohttp.ClientTimeout(total=600)
            async with aiohttp.ClientSession(timeout=timeout) as http, async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
                )
                bench = ConsoleBench(child, http, browser, page=None)  # pyright: ignore[reportArgumentType]
                bench.page = await bench.new_page()
                yield await live_table(bench)
                yield await pages_table(bench)
                yield await lists_table(bench)
                await browser.close()
        for table in lighthouse_table(directory, chromium):
            yield table


async def live_table(bench: ConsoleBench) -> Table:
    """From append to the page."""
    table = table_of(f"From append to the page at {RATE:.0f} events/s, ms", "p50", "p95", "p99")
    found = await bench.live_events()
    p50, p95, p99 = (found[int(len(found) * share)] for share in (0.5, 0.95, 0.99))
    table.add_row("one run", f"{p50:.0f}", goal(f"{p95:.0f}", met=p95 <= EVENT_GOAL_MS), f"{p99:.0f}")
    return table


async def pages_table(bench: ConsoleBench) -> Table:
    """Pages that are opened for the first time, and runs of many events and executions."""
    table = table_of("A page in a fresh browser", "first content, ms", "complete, ms", "KB")
    events = await bench.pull("fill", count=EVENTS, text=TEXT)
    tree = await bench.pull("large_tree", executions=EXECUTIONS, text=TEXT[:200])
    for name, path, ready in (
        ("runs", "/runs", ".table tbody tr"),
        ("run", f"/runs/{tree}", "[role=treegrid] [role=row]"),
        (f"run of {EVENTS:,} events", f"/runs/{events}", f"text={EVENTS:,} events"),
    ):
        painted, took, kilobytes = await bench.opened(path, ready)
        content = goal(f"{painted:.0f}", met=painted <= CONTENT_GOAL_MS)
        table.add_row(name, content, f"{took:.0f}", goal(f"{kilobytes:.0f}", met=kilobytes <= TRANSFER_GOAL_KB))
    await bench.timed(f"/runs/{events}", f"text={EVENTS:,} events")
    scrolled = await bench.page.evaluate(SCROLL)
    table.add_row(
        f"scrolling {EVENTS:,} events", "", goal(f"{scrolled:.0f} a frame (p95)", met=scrolled <= FRAME_GOAL_MS), ""
    )
    took = await bench.timed(f"/runs/{tree}", f"text={EXECUTIONS * 3 - 1:,} events")
    await bench.page.locator("[role=treegrid] [role=row]").first.focus()
    pressed = await bench.page.evaluate(KEYS)
    table.add_row(f"tree of {EXECUTIONS} executions", "", f"{took:.0f}", "")
    table.add_row("  arrow key", "", goal(f"{pressed:.0f} (p95)", met=pressed <= CONTENT_GOAL_MS / 10), "")
    return table


async def lists_table(bench: ConsoleBench) -> Table:
    """The list of many runs."""
    table = table_of(f"The list of {RUNS:,} runs", "ms")
    await bench.pull("many_runs", count=RUNS, text=TEXT)
    row = ".table tbody tr"
    for name, path, text in (
        ("first page", "/runs", ""),
        ("search, a rare word", "/runs?q=lighthouse", "lighthouse"),
        ("search, a common word", "/runs?q=harbor", "harbor"),
        ("search, two words", "/runs?q=lighthouse+town", "lighthouse"),
        ("cost from $0.0999", "/runs?minCostUsd=0.0999", ""),
        ("by key", "/runs?apiKey=key-3", ""),
        ("waiting for a review", "/runs?awaiting=review", ""),
    ):
        table.add_row(name, f"{await bench.timed(path, row, text):.0f}")
    await bench.timed("/runs", row)
    started = time.perf_counter()
    await bench.page.get_by_role("button", name="Next").click()
    await bench.page.get_by_text("Page 2").wait_for()
    await bench.page.locator(f"[aria-busy=false] {row}").first.wait_for()
    table.add_row("next page", f"{(time.perf_counter() - started) * 1000:.0f}")
    return table


def lighthouse_table(directory: Path, chromium: str) -> list[Table]:
    """The scores of the page of a run, opened by a one-time link; nothing where Lighthouse cannot be fetched."""
    scores = lighthouse_scores(directory / "lighthouse", chromium)
    if scores is None:
        return []
    table = table_of(f"The page of a run by {LIGHTHOUSE} (desktop)", *CATEGORIES)
    table.add_row("run", *(goal(str(scores[name]), met=scores[name] >= SCORE_GOAL) for name in CATEGORIES))
    return [table]


def lighthouse_scores(directory: Path, chromium: str) -> dict[str, int] | None:
    """Start the demo's service, run a department, and let Lighthouse look at it; scores are 0 to 100."""
    directory.mkdir()
    node = wheel_directory() / "bin"
    environment = {**os.environ, "PATH": f"{node}:{os.environ['PATH']}", "CHROME_PATH": chromium}
    fetch = [*npm(), "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(directory), LIGHTHOUSE]
    if subprocess.run(fetch, check=False, env=environment, capture_output=True).returncode != 0:
        return None
    result = directory / "scores.json"
    address = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.console_address"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert address.stdout is not None
        link = next(line.strip() for line in address.stdout if line.startswith("http://"))
        program = directory / "node_modules" / ".bin" / "lighthouse"
        flags = "--headless=new --no-sandbox --disable-gpu"
        command = [str(program), link, "--quiet", "--preset=desktop", f"--only-categories={','.join(CATEGORIES)}"]
        command += [f"--chrome-flags={flags}", "--output=json", f"--output-path={result}"]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
    finally:
        address.terminate()
        address.wait()
    found = json.loads(result.read_text())["categories"]
    return {name: round(found[name]["score"] * 100) for name in CATEGORIES}

"""Draw every page of the console, light and dark, wide and narrow, into `docs/console`.

`python -m scripts.draw_console` starts the demo's service with data of its own and needs Chromium. The fonts Inter and
JetBrains Mono make the pictures look as designed.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

import httpx
from playwright.async_api import Browser, Page, async_playwright

from app.cli.demo import SAMPLE_DEPARTMENT, SAMPLE_PROJECT, SAMPLE_PROMPT, demo_settings
from app.server.server import RunningServer, running_server
from app.settings import Settings

TARGET = Path(__file__).parents[1] / "docs" / "console"
WIDE, NARROW = (1440, 900), (390, 844)
PAGES = {
    "runs": "/runs",
    "run": "/runs/RUN",
    "start": "/start",
    "compare": "/compare?left=OTHER&right=RUN",
    "inbox": "/inbox",
    "catalog": "/catalog/agents",
    "agent": "/catalog/agents/dialogue-specialist-001",
    "tool": "/catalog/tools/motifTracker",
    "usage": "/usage?by=agent",
    "quality": "/quality",
    "operations": "/operations",
    "audit": "/operations",
}
PROMPTS = (
    ("character", "Who is the keeper, and what did she give up for the light?"),
    ("visual", "A palette for a coast that is leaving the map."),
    (SAMPLE_DEPARTMENT, f"{SAMPLE_PROMPT} End on the last ship."),
    (SAMPLE_DEPARTMENT, SAMPLE_PROMPT),
)


async def run_departments(server: RunningServer) -> tuple[str, str]:
    """Run some departments, and return the ids of two runs of the same one."""
    headers = {"Authorization": f"Bearer {server.admin_key.text}", "Prefer": "wait=60"}
    found: list[str] = []
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=90) as http:
        for slug, prompt in PROMPTS:
            body = {"prompt": prompt, "project": SAMPLE_PROJECT}
            answer = await http.post(f"/api/v1/departments/{slug}/runs", json=body)
            found.append(answer.raise_for_status().json()["executionId"])
        await http.put("/api/v1/budgets/global", json={"maxCostUsd": 0.5, "period": "month"})
    return found[-2], found[-1]


async def open_page(page: Page, address: str) -> None:
    """Open a page and wait until nothing on it loads."""
    await page.goto(address)
    await page.locator("h1").first.wait_for()
    await page.locator(".skeleton").first.wait_for(state="hidden")
    await page.wait_for_timeout(500)


async def draw(
    browser: Browser,
    server: RunningServer,
    runs: tuple[str, str],
    scheme: Literal["light", "dark"],
    size: tuple[int, int],
    target: Path,
) -> None:
    """Draw all pages in one color scheme and size."""
    width, height = size
    context = await browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    page = await context.new_page()
    await page.goto(server.url)
    await page.get_by_label("API key").fill(server.admin_key.text or "")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("navigation", name="Main").wait_for()
    suffix = scheme if size == WIDE else f"{scheme}-narrow"
    for name, path in PAGES.items():
        await open_page(page, server.url + path.replace("OTHER", runs[0]).replace("RUN", runs[1]))
        if name == "audit":
            await page.get_by_role("region", name="Audit log").evaluate("section => section.scrollIntoView()")
        await page.screenshot(path=target / f"{name}-{suffix}.png")
    await context.close()


async def draw_all(target: Path = TARGET) -> None:
    """Draw everything into a directory."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is needed (Debian's package is `chromium`).")
    with tempfile.TemporaryDirectory() as directory:
        settings = demo_settings(Settings.load(data_dir=Path(directory)))
        async with running_server(settings) as server, async_playwright() as playwright:
            runs = await run_departments(server)
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for size in (WIDE, NARROW):
                await draw(browser, server, runs, "light", size, target)
                await draw(browser, server, runs, "dark", size, target)
            await browser.close()


if __name__ == "__main__":
    asyncio.run(draw_all())

"""Opening the console in a fresh browser: what is painted, asked for and moved."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, ViewportSize, expect

from tests.fixtures.browser import Visit
from tests.fixtures.services import ADMIN_KEY, Service

pytestmark = pytest.mark.slow

STORE_KEY = f"sessionStorage.setItem('dynamic-agents-key', '{ADMIN_KEY}')"
BOXES = """() => [...document.querySelectorAll('.sidebar .brand, .sidebar nav a')]
  .map((link) => [link.textContent.trim(), link.getAttribute('href'), JSON.stringify(link.getBoundingClientRect())])"""
SHIFTS = """() => new Promise((resolve) => {
  const found = [];
  const describe = ({ node, previousRect, currentRect }) =>
    `${(node?.outerHTML ?? node?.textContent ?? 'removed').slice(0, 80)} from y ${previousRect.y} to ${currentRect.y}`;
  new PerformanceObserver((list) => list.getEntries().forEach(({ value, sources }) => {
    found.push({ value, moved: sources.map(describe) });
  })).observe({ type: 'layout-shift', buffered: true });
  setTimeout(() => resolve(found), 200);
})"""
MODULES = "**/console/console.*.js"
WIDE: ViewportSize = {"width": 1350, "height": 940}
NARROW: ViewportSize = {"width": 360, "height": 740}
MAX_SHIFT = 0.02


@asynccontextmanager
async def fresh_page(
    browser: Browser, script: str = STORE_KEY, size: ViewportSize = WIDE, *, runs_scripts: bool = True
) -> AsyncGenerator[Page]:
    """A page in a browser that has nothing of the console."""
    context = await browser.new_context(viewport=size, java_script_enabled=runs_scripts)
    await context.add_init_script(script)
    yield await context.new_page()
    await context.close()


async def without_modules(page: Page) -> None:
    """Keep the page from its modules."""
    await page.route(MODULES, lambda route: route.abort())


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_the_frame_is_painted_without_scripts_where_it_stays(
    browser: Browser, service: Service, size: ViewportSize
) -> None:
    async with fresh_page(browser, size=size, runs_scripts=False) as page:
        await page.goto(f"{service.url}/inbox")
        await expect(page.get_by_role("navigation", name="Main")).to_be_visible()
        await expect(page.get_by_label("Loading")).to_be_visible()
        await expect(page.get_by_label("API key")).to_be_hidden()
    async with fresh_page(browser, size=size) as page:
        await without_modules(page)
        await page.goto(f"{service.url}/inbox")
        painted = await page.evaluate(BOXES)
    async with fresh_page(browser, size=size) as page:
        await page.goto(f"{service.url}/inbox")
        await page.locator("nav [aria-current=page]").wait_for()
        drawn = await page.evaluate(BOXES)

    assert [link[0] for link in painted] == [
        *("Dynamic Agents", "Runs", "Inbox", "Catalog", "Usage", "Quality", "Operations"),
    ]
    assert painted == drawn


async def test_a_visitor_without_a_key_sees_the_form_before_the_modules_run(
    browser: Browser, shared_service: Service
) -> None:
    async with fresh_page(browser, script="") as page:
        await without_modules(page)
        await page.goto(shared_service.url)
        await expect(page.get_by_role("heading", name="Dynamic Agents")).to_be_visible()
        await expect(page.get_by_role("navigation")).to_be_hidden()
        painted = await page.locator(".sign-in .card").bounding_box()
        await page.unroute_all()
        await page.reload()
        await page.get_by_label("API key").wait_for()
        drawn = await page.locator(".sign-in .card").bounding_box()
        await expect(page.get_by_label("API key")).to_be_focused()
        await expect(page.locator(".sign-in, .shell")).to_have_count(1)

    assert painted == drawn


async def test_the_chosen_theme_is_painted_first(browser: Browser, shared_service: Service) -> None:
    script = STORE_KEY + "; localStorage.setItem('dynamic-agents-theme', 'dark')"
    async with fresh_page(browser, script) as page:
        await without_modules(page)
        await page.goto(shared_service.url)
        color = await page.evaluate("() => getComputedStyle(document.body).backgroundColor")

    assert color == "rgb(14, 15, 18)"


async def test_a_key_that_is_typed_before_the_modules_run_stays(browser: Browser, shared_service: Service) -> None:
    typed = asyncio.Event()

    async def hold(route: Route) -> None:
        await typed.wait()
        await route.continue_()

    async with fresh_page(browser, script="") as page:
        await page.route(MODULES, hold)
        await page.goto(shared_service.url, wait_until="commit")
        await page.locator(".sign-in input").fill(ADMIN_KEY)
        typed.set()
        await expect(page.get_by_label("API key")).to_have_value(ADMIN_KEY)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator(".account .role")).to_have_text("admin")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("API key")).to_have_value("")


@pytest.mark.parametrize("path", ["/runs", "/runs/RUN"])
async def test_the_first_page_makes_few_requests_and_none_twice(
    browser: Browser, shared_service: Service, project: str, path: str
) -> None:
    run = await shared_service.run_department("story", project=project)
    async with fresh_page(browser) as page:
        visit = Visit(page, shared_service)
        await visit.open(path.replace("RUN", run["executionId"]))
        await page.locator("[role=row], .table tbody tr").first.wait_for()
        await page.wait_for_load_state("networkidle")
        asked = [url.removeprefix(shared_service.url) for url in visit.requests]
        left = await page.evaluate("() => [...early.keys()]")

    files = {address for address in asked if address.startswith("/console/")}
    assert len(files) == 4, "both scripts, the styles and the icon"
    assert left == [], "asked for early, and used by no one"
    counted = Counter(address for address in asked if address.startswith("/api/v1/"))
    assert len(counted) >= 5
    assert set(counted.values()) == {1}
    assert visit.complaints == []


async def test_a_page_does_not_move_while_it_loads(browser: Browser, shared_service: Service, project: str) -> None:
    """Not even when the output of a run comes after its events."""
    run = await shared_service.run_department("story", project=project)

    async def slow_down(route: Route) -> None:
        await asyncio.sleep(0.5)
        await route.continue_()

    async with fresh_page(browser) as page:
        await page.route("**/api/v1/executions/*?omit=*", slow_down)
        visit = Visit(page, shared_service)
        found: dict[str, list[dict[str, Any]]] = {}
        for path in ("/runs", f"/runs/{run['executionId']}"):
            await visit.open(path)
            await page.locator("[role=row], .table tbody tr").first.wait_for()
            await page.wait_for_load_state("networkidle")
            found[path] = await page.evaluate(SHIFTS)

    assert {path: moves for path, moves in found.items() if sum(one["value"] for one in moves) > MAX_SHIFT} == {}


async def test_answers_to_one_caller_are_not_shown_to_another(browser: Browser, shared_service: Service) -> None:
    script = "if (!sessionStorage.length) sessionStorage.setItem('dynamic-agents-key', 'da_wrong')"
    async with fresh_page(browser, script) as page:
        visit = Visit(page, shared_service)
        await page.goto(f"{shared_service.url}/runs")
        await page.get_by_label("API key").fill(ADMIN_KEY)
        assert await page.evaluate("() => early.size") == 0
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator(".account .role")).to_have_text("admin")
        await expect(page.get_by_role("status", name="Found")).to_be_visible()

    assert visit.complaints == []

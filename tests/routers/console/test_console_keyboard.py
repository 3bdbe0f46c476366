"""Whole flows by the keyboard alone: sign in, start, follow, review, edit, compare."""

import re

from playwright.async_api import Locator, Page, expect

from tests.fixtures.browser import Visit
from tests.fixtures.services import ADMIN_KEY

MAX_STEPS = 150
HAS_FOCUS = "(element) => element === document.activeElement"
IS_OUTLINED = "(element) => getComputedStyle(element.closest('.editor') ?? element).outlineStyle !== 'none'"


async def tab_to(page: Page, wanted: Locator, key: str = "Tab") -> None:
    """Press Tab until a control has the focus, which has to be visible."""
    await wanted.first.wait_for()
    for _ in range(MAX_STEPS):
        if await wanted.first.evaluate(HAS_FOCUS):
            assert await wanted.first.evaluate(IS_OUTLINED), f"the focus on {wanted} is not visible"
            return
        await page.keyboard.press(key)
    raise AssertionError(f"{wanted} is not reached by {key}")


async def test_a_run_is_started_followed_and_reviewed_by_keys(visit: Visit, project: str) -> None:
    page, keys = visit.page, visit.page.keyboard
    await page.goto(visit.service.url)
    await expect(page.get_by_label("API key")).to_be_focused()
    await keys.type(ADMIN_KEY)
    await keys.press("Enter")
    await page.get_by_role("navigation", name="Main").wait_for()

    await tab_to(page, page.get_by_role("button", name="Start run"))
    await keys.press("Enter")
    await tab_to(page, page.get_by_label("Department", exact=True))
    await keys.type("Story")
    await tab_to(page, page.get_by_label("Prompt"))
    await keys.type("Vanuatu by keys.")
    await tab_to(page, page.get_by_label("Project"))
    await keys.press("ControlOrMeta+a")
    await keys.type(project)
    await keys.press("Enter")
    await expect(page).to_have_url(re.compile(r"/runs/exec_\w+$"))
    await expect(page.locator(".run-title .status").first).to_have_text("Completed", timeout=30_000)

    rows = page.get_by_role("treegrid").get_by_role("row")
    await tab_to(page, rows)
    await keys.press("ArrowDown")
    await expect(rows.nth(1)).to_be_focused()
    await keys.press("ArrowUp")
    await expect(rows.first).to_be_focused()
    await tab_to(page, page.get_by_role("button", name="Review", exact=True), "Shift+Tab")
    await keys.press("Enter")
    await tab_to(page, page.get_by_role("dialog").get_by_label("Notes"))
    await keys.type("Well done.")
    await tab_to(page, page.get_by_role("button", name="Save review"))
    await keys.press("Enter")
    await expect(page.locator(".run-title")).to_contain_text("Approved")

    await tab_to(page, page.get_by_role("button", name="Compare"), "Shift+Tab")
    await keys.press("Enter")
    await expect(page.get_by_role("heading", name="Compare two runs")).to_be_visible()


async def test_an_agent_is_edited_by_keys(console: Visit) -> None:
    page, keys = console.page, console.page.keyboard
    agent = {"agentId": "keys-001", "name": "Keys", "department": "story", "instructionsPrompt": "You write."}
    created = await console.service.http.post("/api/v1/agents", json={**agent, "description": "Works."})
    assert created.status_code == 201, created.text
    await tab_to(page, page.get_by_role("link", name="Catalog"))
    await keys.press("Enter")
    await tab_to(page, page.get_by_role("link", name="Agents", exact=True))
    await keys.press("Enter")
    await expect(page).to_have_url(f"{console.service.url}/catalog/agents")
    await tab_to(page, page.get_by_label("Search"))
    await keys.type("keys-001")
    tile = page.locator("a.tile")
    await expect(tile).to_have_count(1)
    await tab_to(page, tile)
    await keys.press("Enter")
    await tab_to(page, page.get_by_label("description"))
    await keys.press("ControlOrMeta+End")
    await keys.type(" Edited by keys.")
    await tab_to(page, page.get_by_role("button", name="Save"))
    await keys.press("Enter")

    await expect(page.get_by_role("status", name="Messages")).to_contain_text("The next run uses it.")
    assert (await console.service.http.get("/api/v1/agents/keys-001")).json()["description"] == "Works. Edited by keys."
    await tab_to(page, page.get_by_role("button", name="Delete"))
    await keys.press("Enter")
    await tab_to(page, page.get_by_role("dialog").get_by_role("button", name="Delete"))
    await keys.press("Enter")
    await expect(page).to_have_url(f"{console.service.url}/catalog/agents")


async def test_code_is_left_by_escape_and_tab(console: Visit) -> None:
    page, keys = console.page, console.page.keyboard
    await console.open("/catalog/tools/motifTracker")
    code = page.get_by_label("executeFunction")
    await tab_to(page, code)
    await keys.press("Tab")
    await expect(code).not_to_be_focused()
    await tab_to(page, code, "Shift+Tab")
    await keys.type("//")
    await keys.press("Tab")
    await expect(code).to_be_focused()
    await keys.press("Escape")
    await keys.press("Tab")

    await expect(code).not_to_be_focused()

"""The catalog, usage and operations in the console."""

import pytest
from playwright.async_api import expect

from tests.fixtures.browser import Visit

pytestmark = pytest.mark.slow

TOOL = "countWordsOfTheConsole"
AGENT = "console-specialist-001"


async def test_an_agent_is_created_edited_used_and_deleted(console: Visit, project: str) -> None:
    page = console.page
    await console.open("/catalog/agents")
    await page.get_by_role("button", name="New").click()
    await page.get_by_label("agentId").fill(AGENT)
    await page.get_by_label("name", exact=True).fill("Console Specialist")
    await page.get_by_label("department", exact=True).select_option("story")
    await page.get_by_label("description").fill("Tests the console.")
    await page.get_by_label("instructionsPrompt").fill("You write.")
    await page.get_by_role("button", name="Save").click()
    await expect(page).to_have_url(f"{console.service.url}/catalog/agents/{AGENT}")

    await page.get_by_label("instructionsPrompt").fill("You write about Tuvalu.")
    async with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status", name="Messages")).to_contain_text("The next run uses it.")
    run = await console.service.run_agent(AGENT, project=project, judge=False)
    assert "You write about Tuvalu." in str(run["runState"]["messages"])

    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page).to_have_url(f"{console.service.url}/catalog/agents")
    assert (await console.service.http.get(f"/api/v1/agents/{AGENT}")).status_code == 404


async def test_api_errors_are_shown_beside_their_fields(console: Visit) -> None:
    page = console.page
    await console.open("/catalog/departments/new")
    await page.get_by_label("slug").fill("Not a slug")
    await page.get_by_label("name", exact=True).fill("Music")
    await page.get_by_label("description").fill("Music.")
    await page.get_by_label("priority").fill("77")
    await page.get_by_role("button", name="Save").click()

    for label in ("slug", "priority"):
        field = page.get_by_label(label)
        await expect(field).to_have_attribute("aria-invalid", "true")
        described = await field.get_attribute("aria-describedby") or ""
        await expect(page.locator(f"#{described.split()[-1]}")).not_to_be_empty()
    await expect(page.get_by_label("name", exact=True)).not_to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_label("slug")).to_be_focused()


async def test_a_change_of_another_is_not_overwritten(console: Visit) -> None:
    page = console.page
    await console.open("/catalog/departments/story")
    changed = await console.service.http.patch("/api/v1/departments/story", json={"color": "#112233"})
    await page.get_by_label("priority").fill("3")
    await page.get_by_role("button", name="Save").click()

    await expect(page.get_by_role("alert")).to_be_visible()
    assert (await console.service.http.get("/api/v1/departments/story")).json()["priority"] == changed.json()[
        "priority"
    ]


async def test_a_tool_is_tried_out(console: Visit) -> None:
    page = console.page
    await console.open("/catalog/tools/textStatistics")
    await page.get_by_label("Input", exact=True).fill('{"text": "Two words"}')
    await page.get_by_role("button", name="Try").click()
    await expect(page.get_by_role("region", name="Result", exact=True)).to_contain_text('"words": 2')

    await page.get_by_label("Input", exact=True).fill('{"text": 7}')
    await page.get_by_role("button", name="Try").click()
    await expect(page.get_by_role("form", name="Try the tool")).to_contain_text("tool-input-invalid")

    await page.get_by_label("Input", exact=True).fill("no JSON")
    await page.get_by_role("button", name="Try").click()
    await expect(page.get_by_label("Input", exact=True)).to_have_attribute("aria-invalid", "true")


async def test_the_figures_of_usage_are_those_of_the_api(console: Visit, project: str) -> None:
    await console.service.run_agent("plot-specialist-001", project=project)
    await console.open("/usage?by=agent")
    usage = (await console.service.http.get("/api/v1/analytics/usage", params={"groupBy": "agent"})).json()
    await console.page.reload()
    figures = console.page.locator(".figures")

    await expect(figures).to_contain_text(f"{usage['totalTokens']:,}")
    await expect(figures).to_contain_text(f"{usage['calls']:,}")
    table = console.page.get_by_role("table", name="Usage by Agent")
    await expect(table.get_by_role("row")).to_have_count(1 + len(usage["groups"]))
    for group in usage["groups"]:
        await expect(table).to_contain_text(f"{group['totalTokens']:,}")


async def test_a_budget_is_set_and_deleted(console: Visit) -> None:
    page = console.page
    await console.open("/usage")
    await page.get_by_role("button", name="New budget").click()
    await page.get_by_label("Scope").fill("department:video")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    await expect(page.get_by_label("maxCostUsd")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("maxCostUsd").fill("2.5")
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()
    budgets = page.get_by_role("region", name="Budgets")
    await expect(budgets).to_contain_text("of $2.50")
    await (
        budgets.get_by_role("listitem").filter(has_text="department:video").get_by_role("button", name="Delete").click()
    )
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    await expect(budgets).not_to_contain_text("department:video")


async def test_a_key_is_created_shown_once_and_revoked(console: Visit) -> None:
    page = console.page
    await console.open("/operations")
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("name", exact=True).fill("night shift")
    await page.get_by_role("dialog").get_by_role("button", name="Create").click()
    await expect(page.locator(".key-shown")).to_contain_text("da_")
    await page.get_by_role("button", name="Done").click()
    await page.get_by_role("button", name="Revoke night shift").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()

    keys = page.get_by_role("table", name="Keys")
    await expect(keys.get_by_role("row").filter(has_text="night shift")).to_have_count(0)

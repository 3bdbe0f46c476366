"""Runs in the console: start, live, report, cancel, retry, review."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.fixtures.browser import Visit
from tests.fixtures.http_api import Gate, start_run
from tests.fixtures.model_server import ModelServer, fault
from tests.fixtures.services import Service

pytestmark = pytest.mark.slow

PROMPT = "Outline a short film about a lighthouse keeper."


async def fill_start_form(console: Visit, project: str, prompt: str = PROMPT) -> None:
    """Fill in the form of a run of the Story department."""
    await console.page.get_by_role("button", name="Start run").click()
    await console.page.get_by_label("Department", exact=True).select_option("story")
    await console.page.get_by_label("Prompt").fill(prompt)
    await console.page.get_by_label("Project").fill(project)


async def test_a_run_is_started_followed_and_read(console: Visit, gate: Gate, project: str) -> None:
    page = console.page
    await fill_start_form(console, project)
    await page.get_by_role("button", name="Start run").click()
    await expect(page).to_have_url(re.compile(r"/runs/exec_\w+$"))
    await gate.reached.wait()
    await expect(page.get_by_role("treegrid").get_by_role("row").first).to_contain_text("Running")
    gate.opened.set()

    rows = page.get_by_role("treegrid").get_by_role("row")
    await expect(page.locator(".run-title .status").first).to_have_text("Completed")
    execution_id = page.url.rpartition("/")[2]
    tree = (await console.service.http.get(f"/api/v1/executions/{execution_id}/tree")).json()
    await expect(rows).to_have_count(1 + len(tree["children"]))
    for index in range(await rows.count()):
        await expect(rows.nth(index)).to_contain_text("Completed")
    await expect(page.get_by_role("region", name="Timeline")).to_be_visible()
    output = (await console.service.http.get(f"/api/v1/executions/{execution_id}")).json()["output"]
    await expect(page.get_by_role("tabpanel")).to_contain_text(output["text"].split("\n")[0].strip("# *")[:40])


async def test_events_are_listed_with_number_and_type(console: Visit, project: str) -> None:
    run = await console.service.run_agent("plot-specialist-001", project=project)
    events = await console.service.events(run["executionId"])
    await console.open(f"/runs/{run['executionId']}")
    rows = console.page.get_by_role("list", name="Events").get_by_role("listitem")

    await expect(rows).to_have_count(len(events))
    shown = [await rows.nth(index).inner_text() for index in range(len(events))]
    for event, text in zip(reversed(events), shown, strict=True):
        assert text.split()[0] == str(event["seq"])
        assert event["type"] in text


async def test_an_event_and_an_execution_have_addresses(console: Visit, project: str) -> None:
    run = await console.service.run_department("story", project=project)
    tree = (await console.service.http.get(f"/api/v1/executions/{run['executionId']}/tree")).json()
    child = tree["children"][0]["executionId"]

    await console.open(f"/runs/{child}")
    await expect(console.page).to_have_url(f"{console.service.url}/runs/{run['executionId']}?at={child}")
    selected = console.page.get_by_role("treegrid").locator("[aria-selected=true]")
    await expect(selected).to_have_attribute("data-id", child)
    await console.open(f"/runs/{run['executionId']}?event=2")
    await expect(console.page.get_by_role("heading", name="Event 2 ·")).to_be_visible()


async def test_a_run_is_cancelled(console: Visit, gate: Gate, project: str) -> None:
    execution_id = await start_run(console.service, project)
    await gate.reached.wait()
    await console.open(f"/runs/{execution_id}")
    await console.page.get_by_role("button", name="Cancel").click()

    await expect(console.page.locator(".run-title .status").first).to_have_text("Cancelled")
    await expect(console.page.get_by_role("button", name="Retry")).to_be_visible()
    gate.opened.set()


async def test_a_failed_run_is_retried_as_another(console: Visit, model_server: ModelServer, project: str) -> None:
    model_server.on("work", fault(400))
    run = await console.service.run_agent("plot-specialist-001", project=project, judge=False)
    model_server.reset()
    await console.open(f"/runs/{run['executionId']}")
    await expect(console.page.get_by_role("complementary", name="Details")).to_contain_text(run["error"]["code"])
    await console.page.get_by_role("button", name="Retry").click()

    await expect(console.page).not_to_have_url(re.compile(run["executionId"]))
    await expect(console.page.locator(".run-title .status").first).to_have_text("Completed")


async def test_a_review_sends_work_back_and_approves_the_next(console: Visit, project: str) -> None:
    page = console.page
    run = await console.service.run_agent("plot-specialist-001", project=project)
    await console.open(f"/runs/{run['executionId']}")
    await page.get_by_role("button", name="Review").click()
    await page.get_by_role("radio", name="Revision needed").check()
    await page.get_by_role("button", name="Save review").click()
    await expect(page.get_by_label("Notes")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Notes").fill("Name the keeper.")
    await page.get_by_role("button", name="Save review").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await wait_for_revision(console.service, run["executionId"])
    await expect(page.get_by_role("button", name="Review")).to_be_visible()
    await page.get_by_role("button", name="Review").click()
    await page.get_by_role("radio", name="Approve").check()
    await page.get_by_role("button", name="Save review").click()

    await expect(page.locator(".run-title")).to_contain_text("Approved")


async def wait_for_revision(service: Service, execution_id: str) -> None:
    """Wait until a run that was sent back has ended again."""
    async with asyncio.timeout(20):
        while True:
            found = (await service.http.get(f"/api/v1/executions/{execution_id}")).json()
            if found["status"] == "completed" and found["retryCount"] == 1:
                return
            await asyncio.sleep(0.05)


async def test_the_page_says_that_it_is_offline_and_continues(console: Visit, gate: Gate, project: str) -> None:
    execution_id = await start_run(console.service, project)
    await gate.reached.wait()
    await console.open(f"/runs/{execution_id}")
    await console.page.context.set_offline(True)
    await expect(console.page.get_by_role("status", name="Connection")).to_contain_text("offline")
    gate.opened.set()
    await console.page.context.set_offline(False)

    await expect(console.page.get_by_role("status", name="Connection")).to_have_text("")
    await expect(console.page.locator(".run-title .status").first).to_have_text("Completed")


async def test_runs_are_found_by_filter_and_words(console: Visit, project: str) -> None:
    run = await console.service.run_agent("plot-specialist-001", project=project, prompt="Zanzibar", judge=False)
    await console.open("/runs?status=completed")
    table = console.page.get_by_role("table", name="Runs")
    await console.page.get_by_label("Search").fill("zanzi")
    await expect(table.get_by_role("row")).to_have_count(2)
    await table.get_by_role("link", name="Zanzibar").click()

    await expect(console.page).to_have_url(f"{console.service.url}/runs/{run['executionId']}")


async def test_the_list_shows_a_run_as_it_starts_and_ends(console: Visit, gate: Gate, project: str) -> None:
    await console.open("/runs")
    await start_run(console.service, project, prompt="Kiribati")
    await gate.reached.wait()
    row = console.page.get_by_role("row").filter(has_text="Kiribati")
    await expect(row).to_contain_text("Running")
    gate.opened.set()

    await expect(row).to_contain_text("Completed")


async def test_the_tree_is_walked_by_keys(console: Visit, project: str) -> None:
    run = await console.service.run_department("story", project=project)
    await console.open(f"/runs/{run['executionId']}")
    rows = console.page.get_by_role("treegrid").get_by_role("row")
    await rows.first.focus()
    await console.page.keyboard.press("ArrowDown")
    await expect(rows.nth(1)).to_be_focused()
    await expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    await console.page.keyboard.press("Home")
    await console.page.keyboard.press("ArrowLeft")

    await expect(rows).to_have_count(1)

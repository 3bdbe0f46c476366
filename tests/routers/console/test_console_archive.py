"""Archived runs and legal holds in the console."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import expect

from app.services.retention.passes import RetentionPass
from tests.fixtures.browser import Visit
from tests.fixtures.model_server import ModelServer

AGENT = "dialogue-specialist-001"
LONG_AGO = datetime(2020, 1, 31, tzinfo=UTC)


@pytest.mark.slow
async def test_a_run_shows_its_hold_its_archive_and_the_loss_of_its_events(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    page, services = console.page, console.service.services
    run = await console.service.run_agent(AGENT, judge=False, project=project)
    await console.open(f"/runs/{run['executionId']}")
    hold = page.get_by_role("button", name="Legal hold")
    await hold.click()
    await expect(page.locator(".run-title")).to_contain_text("Under legal hold")
    await expect(hold).to_have_attribute("aria-pressed", "true")
    await hold.click()
    await expect(hold).to_have_attribute("aria-pressed", "false")

    await services.control.outbox.settle()
    executions = services.database["agent-executions"]
    await executions.update_one({"executionId": run["executionId"]}, {"$set": {"completedAt": LONG_AGO}})
    archives = services.executions.archives
    done = await RetentionPass(services.database, archives, share=1).run(datetime(2021, 1, 1, tzinfo=UTC))
    assert (done and done.trees) == 1
    await console.open(f"/runs/{run['executionId']}")
    await expect(page.locator(".run-title")).to_contain_text("Archived")
    await expect(page.locator(".note")).to_contain_text("The events come from the archive")
    await expect(page.get_by_role("list", name="Events")).to_contain_text("agent-complete")
    await expect(page.get_by_role("button", name="Review")).to_have_count(0)

    remove(archives.directory / "2020-01" / f"{run['executionId']}.jsonl.zst")
    await console.open(f"/runs/{run['executionId']}")
    await expect(page.get_by_role("alert")).to_contain_text("The events are gone")
    await expect(page.get_by_role("region", name="Events of the run")).to_contain_text("The events are gone")


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()

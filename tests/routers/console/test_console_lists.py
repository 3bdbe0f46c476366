"""Lists of the console: filters in the address, and all that waits, however much there is."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from bson import ObjectId
from playwright.async_api import expect

from app.database.connection import Raw
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus
from tests.fixtures.browser import Visit
from tests.fixtures.services import Service

WAITING = 130


def ended_run(project: str, **fields: Any) -> Raw:  # noqa: ANN401 - any field
    """An ended run as the service stores it."""
    now = utc_now()
    root = AgentExecution.new_root(
        agent=None,  # pyright: ignore[reportArgumentType] - of a deleted agent
        department=None,  # pyright: ignore[reportArgumentType]
        kind=ExecutionKind.AGENT,
        project=ObjectId(project),
        status=ExecutionStatus.COMPLETED,
        started_at=now,
        completed_at=now,
        output={"text": "Done.", "data": None},
        **fields,
    )
    return root.as_stored()


@pytest.fixture
async def many(shared_service: Service, project: str) -> AsyncGenerator[int]:
    """More runs that wait for a review than a page of the API has."""
    executions = shared_service.services.database[AgentExecution.get_collection_name()]
    rows = [ended_run(project, prompt=f"Samoa {number}.") for number in range(WAITING)]
    await executions.insert_many(rows)
    yield WAITING
    await executions.delete_many({"project": ObjectId(project)})


async def test_the_inbox_counts_and_shows_everything_that_waits(console: Visit, many: int, project: str) -> None:
    page = console.page
    await console.open("/inbox?kind=review")
    total = (await console.service.http.get("/api/v1/executions?awaiting=review&limit=1")).json()["total"]
    assert total >= many
    link = page.get_by_role("navigation", name="Main").get_by_role("link", name="Inbox")
    await expect(link).to_contain_text(f"{total:,} waiting")
    rows = page.get_by_role("list", name="Waiting reviews").get_by_role("listitem")
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(100)

    await page.keyboard.press("j")
    await page.keyboard.press("a")
    await page.get_by_role("button", name="Save review").click()
    await expect(link).to_contain_text(f"{total - 1:,} waiting")


async def test_filters_of_the_runs_are_in_the_address(console: Visit, shared_service: Service, project: str) -> None:
    executions = shared_service.services.database[AgentExecution.get_collection_name()]
    await executions.insert_many(
        [
            ended_run(project, prompt="Palau cheap.", listed_cost_usd=0.01),
            ended_run(project, prompt="Palau dear.", listed_cost_usd=7.5, review_status="approved"),
        ]
    )
    page = console.page
    rows = page.get_by_role("table", name="Runs").locator("tbody tr")
    await console.open(f"/runs?q=palau&project={project}")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Minimum cost in USD").fill("1")
    await page.get_by_label("Minimum cost in USD").press("Enter")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("Palau dear.")
    assert "minCostUsd=1" in page.url

    await page.reload()
    await expect(rows).to_have_count(1)
    await expect(page.get_by_label("Search")).to_have_value("palau")
    await console.open(f"/runs?awaiting=review&project={project}")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("Palau cheap.")
    await page.get_by_label("Search").fill("no such word")
    await expect(page.get_by_role("heading", name="No matching runs")).to_be_visible()
    await executions.delete_many({"project": ObjectId(project)})

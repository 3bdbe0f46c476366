"""The audit log in the console."""

import asyncio

from playwright.async_api import Browser, expect

from app.database.collections import collection_of
from app.models.audit import AuditMark
from tests.fixtures.browser import Visit
from tests.fixtures.services import Service


async def test_the_audit_log_is_filtered_paged_and_verified(browser: Browser, service: Service) -> None:
    created = await service.http.post("/api/v1/api-keys", json={"name": "night watch", "role": "viewer"})
    assert created.status_code == 201
    marks = collection_of(service.services.database, AuditMark)
    async with asyncio.timeout(5):
        while await marks.count_documents({}):  # noqa: ASYNC110 - the service makes it so
            await asyncio.sleep(0.05)
    context = await browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    visit = Visit(await context.new_page(), service)
    await visit.sign_in()
    region = visit.page.get_by_role("region", name="Audit log")
    rows = region.get_by_role("table").get_by_role("row")
    await visit.open("/operations")
    await expect(rows).to_have_count(26)
    await region.get_by_role("button", name="Next").click()
    await expect(region.get_by_text("Page 2")).to_be_visible()

    await region.get_by_label("Action").select_option("API keys")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(1)).to_contain_text("api-key.create")
    await expect(rows.nth(1)).to_contain_text("night watch")
    await region.get_by_label("Target").fill("agent/none")
    await region.get_by_label("Target").press("Enter")
    await expect(region.get_by_text("No matching entries")).to_be_visible()

    await region.get_by_role("button", name="Verify").click()
    await expect(region.get_by_text("Verified:")).to_be_visible()
    await service.services.database["agent-audit"].update_one({"_id": 2}, {"$set": {"actor.name": "Eve"}})
    await region.get_by_role("button", name="Verify").click()
    await expect(region.get_by_text("does not match: entry 2")).to_be_visible()
    await context.close()
    assert visit.complaints == []

"""Signing in and out."""

import pytest
from playwright.async_api import expect

from tests.fixtures.browser import Visit
from tests.fixtures.http_api import NewKey
from tests.fixtures.services import ADMIN_KEY

pytestmark = pytest.mark.slow

STORAGE = "() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie, location.href]"


async def test_a_key_signs_in_for_this_tab_alone(visit: Visit) -> None:
    await visit.sign_in()
    session, local, cookie, address = await visit.page.evaluate(STORAGE)
    await visit.page.reload()
    await expect(visit.page.get_by_role("navigation", name="Main")).to_be_visible()
    other = await visit.page.context.new_page()
    await other.goto(visit.service.url)

    assert ADMIN_KEY in session
    assert ADMIN_KEY not in local + cookie + address
    await expect(other.get_by_label("API key")).to_be_visible()


async def test_a_wrong_key_is_an_alert(visit: Visit) -> None:
    await visit.page.goto(visit.service.url)
    await visit.page.get_by_label("API key").fill("da_wrong")
    await visit.page.get_by_role("button", name="Sign in").click()

    await expect(visit.page.get_by_role("alert")).to_contain_text("does not know this key")
    await expect(visit.page.get_by_label("API key")).to_be_visible()


async def test_the_link_that_the_service_prints_signs_in_once(visit: Visit) -> None:
    link = f"{visit.service.url}/#sign-in={visit.service.services.sign_in_code.create()}"

    await visit.page.goto(link)
    await expect(visit.page.get_by_role("navigation", name="Main")).to_be_visible()
    assert "sign-in" not in visit.page.url
    await visit.page.get_by_role("button", name="Sign out").click()
    await visit.page.goto("about:blank")
    await visit.page.goto(link)

    await expect(visit.page.get_by_role("alert")).to_contain_text("has been used")
    await expect(visit.page.get_by_label("API key")).to_be_visible()


async def test_signing_out_forgets_the_key(console: Visit) -> None:
    await console.page.get_by_role("button", name="Sign out").click()
    await expect(console.page.get_by_label("API key")).to_be_visible()
    session, *_ = await console.page.evaluate(STORAGE)

    assert session == "{}"


@pytest.mark.parametrize("name", ["Runs", "Inbox", "Catalog", "Usage", "Quality", "Operations"])
async def test_the_navigation_leads_to_each_page(console: Visit, name: str) -> None:
    link = console.page.get_by_role("navigation", name="Main").get_by_role("link", name=name)
    await link.click()

    await expect(console.page.get_by_role("heading", name=name, level=1)).to_be_visible()
    await expect(link).to_have_attribute("aria-current", "page")
    assert console.page.url == f"{console.service.url}/{name.lower()}"


async def test_a_viewer_sees_no_button_that_changes_anything(visit: Visit, new_key: NewKey) -> None:
    key = (await new_key("viewer"))["Authorization"].removeprefix("Bearer ")
    run = await visit.service.run_agent("plot-specialist-001", judge=False)
    await visit.sign_in(key)

    for path in (
        *("/runs", f"/runs/{run['executionId']}", "/inbox", "/usage", "/quality", "/operations"),
        *("/catalog/agents", "/catalog/agents/plot-specialist-001", "/catalog/tools/motifTracker"),
    ):
        await visit.open(path)
        for word in ("Start run", "New", "Save", "Delete", "Try", "Review", "Retry", "Cancel", "Edit", "Approve"):
            await expect(visit.page.get_by_role("button", name=word, exact=True)).to_have_count(0)
            await expect(visit.page.get_by_role("main").get_by_role("link", name=word, exact=True)).to_have_count(0)

"""The console in a real browser."""

from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Browser

from tests.fixtures.browser import Visit, running_browser
from tests.fixtures.services import Service


@pytest.fixture(scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """The browser of the session."""
    async with running_browser() as opened:
        yield opened


@pytest.fixture
async def visit(browser: Browser, shared_service: Service) -> AsyncGenerator[Visit]:
    """A page on which no one has signed in. It must not ask another host for anything, nor break its own rules."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    visit = Visit(await context.new_page(), shared_service)
    yield visit
    await context.close()
    assert visit.foreign_requests == []
    assert visit.complaints == []


@pytest.fixture
async def console(visit: Visit) -> Visit:
    """The console, signed in on as an admin."""
    await visit.sign_in()
    return visit

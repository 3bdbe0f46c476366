"""`/docs` and `/redoc`: rendered in a real browser, without a request to another host, under a strict policy."""

import hashlib
from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Page, Request, async_playwright

from app.routers.docs.api_docs import ASSETS, FILES
from scripts.vendor_api_docs import PACKAGES
from tests.fixtures.http_api import assert_problem
from tests.fixtures.services import Service
from tests.routers.sockets.test_event_sockets import CHROMIUM

RENDERED = {"/docs": "#operations-executions-listExecutions", "/redoc": "[data-section-id='tag/executions']"}


class Visit:
    """A page of a real browser, what it asked for, and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._on_request)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.requests.append(request.url)


@pytest.fixture
async def visit() -> AsyncGenerator[Visit]:
    """A page of a browser that cannot resolve any name: what is not here is not there."""
    if not CHROMIUM:
        pytest.skip("There is no Chromium on this machine (Debian's package is `chromium`).")
    options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield Visit(await browser.new_page())
        await browser.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", RENDERED)
async def test_the_page_is_rendered_without_a_request_to_another_host(
    shared_service: Service, visit: Visit, path: str
) -> None:
    await visit.page.goto(shared_service.url + path)
    await visit.page.wait_for_selector(RENDERED[path])
    await visit.page.wait_for_load_state("networkidle")

    assert [url for url in visit.requests if not url.startswith(f"{shared_service.url}/")] == []
    assert visit.complaints == []


@pytest.mark.slow
async def test_an_operation_can_be_tried_on_the_page(shared_service: Service, visit: Visit) -> None:
    page = visit.page
    await page.goto(f"{shared_service.url}/docs")
    operation = page.locator("#operations-operating-getHealth")
    await operation.locator("button.opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table tr.response .response-col_status")
    await answer.first.wait_for()

    assert "200" in await answer.first.inner_text()


@pytest.mark.parametrize("path", RENDERED)
async def test_the_policy_of_the_page_lets_no_foreign_or_inline_script_run(shared_service: Service, path: str) -> None:
    answer = await shared_service.http.get(path)
    rules = {rule.split()[0]: rule.partition(" ")[2] for rule in answer.headers["content-security-policy"].split("; ")}

    assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
    assert (rules["default-src"], rules["script-src"], rules["connect-src"]) == ("'none'", "'self'", "'self'")
    assert (rules["base-uri"], rules["form-action"], rules["frame-ancestors"]) == ("'none'", "'none'", "'none'")
    assert "://" not in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize("name", sorted(ASSETS))
async def test_a_script_or_style_of_the_pages_is_served_with_its_type(shared_service: Service, name: str) -> None:
    answer = await shared_service.http.get(f"/docs/assets/{name}")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css" if name.endswith(".css") else "text/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "SHA256SUMS", "docs.html", "..%2f..%2fmain.py", "%2e%2e"])
async def test_nothing_else_is_served(shared_service: Service, name: str) -> None:
    answer = await shared_service.http.get(f"/docs/assets/{name}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unknown_asset_is_a_problem(shared_service: Service) -> None:
    assert_problem(await shared_service.http.get("/docs/assets/nothing.js"), 404, "asset-not-found")


def test_the_files_of_others_are_those_that_were_fetched() -> None:
    sums = {line.split()[1]: line.split()[0] for line in (FILES / "SHA256SUMS").read_text().splitlines()}
    names = {name for package in PACKAGES for name in package.files.values()}

    assert set(sums) == names
    for name, digest in sums.items():
        assert hashlib.sha256((FILES / name).read_bytes()).hexdigest() == digest, name


def test_each_package_comes_with_its_license() -> None:
    for package in PACKAGES:
        assert any("LICENSE" in name for name in package.files.values()), package.name

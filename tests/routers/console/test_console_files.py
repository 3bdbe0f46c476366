"""The console's files over HTTP: their policy, their caching, their size."""

import hashlib
import re

import pytest

from app.routers.console import FILES, PAGES, console_files, page_modules, preloads
from scripts.vendor_console import CLIENT, CLIENT_COPY, PACKAGES, TARGET
from tests.fixtures.services import Service, StartService

MAX_FIRST_PAGE_BYTES = 250_000
MAX_CLIENT_BYTES = 20 * 1024


@pytest.mark.parametrize("path", ["/", *(f"/{page}" for page in PAGES), "/runs/exec_1_abc", "/catalog/agents/a-001"])
async def test_every_page_is_served_under_a_strict_policy(shared_service: Service, path: str) -> None:
    answer = await shared_service.http.get(path)
    policy = answer.headers["content-security-policy"]
    rules = {rule.split()[0]: rule.partition(" ")[2] for rule in policy.split("; ")}

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (rules["default-src"], rules["script-src"], rules["style-src"]) == ("'none'", "'self'", "'self'")
    assert (rules["connect-src"], rules["base-uri"], rules["frame-ancestors"]) == ("'self'", "'none'", "'none'")
    assert "unsafe" not in policy
    assert "://" not in answer.text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", answer.text)


async def test_a_browser_keeps_a_file_and_asks_whether_it_has_changed(shared_service: Service) -> None:
    first = await shared_service.http.get("/console/main.js")
    again = await shared_service.http.get("/console/main.js", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (first.headers["cache-control"], first.headers["content-encoding"]) == ("no-cache", "gzip")
    assert first.headers["x-content-type-options"] == "nosniff"
    assert (again.status_code, again.content) == (304, b"")


async def test_a_client_without_gzip_gets_the_file_as_it_is(shared_service: Service) -> None:
    answer = await shared_service.http.get("/console/main.js", headers={"Accept-Encoding": "identity"})

    assert "content-encoding" not in answer.headers
    assert answer.content == (FILES / "main.js").read_bytes()


@pytest.mark.parametrize("name", ["nothing.js", "..%2f..%2fmain.py", "%2e%2e/main.py", "", "vendor"])
async def test_nothing_else_is_served(shared_service: Service, name: str) -> None:
    answer = await shared_service.http.get(f"/console/{name}")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.slow
async def test_the_console_can_be_switched_off(start_service: StartService) -> None:
    async with start_service(console=False) as running:
        answers = [await running.http.get(path) for path in ("/", "/runs", "/console/main.js")]

    assert [answer.status_code for answer in answers] == [404, 404, 404]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_its_modules_before_they_are_asked_for(page: str) -> None:
    named = re.findall(r"</console/([^>]+)>", preloads(page))

    assert {"main.js", "app.js", page_modules()[page]} <= set(named)
    assert len(named) == len(set(named))
    assert set(named) <= set(console_files())
    assert len(preloads(page)) < 4_000


def test_the_first_page_is_small() -> None:
    styles = [name for name in console_files() if name.startswith("styles/")]
    scripts = re.findall(r"</console/([^>]+)>", preloads("runs"))
    run_page = [name for name in console_files() if name.startswith(("pages/run", "model/", "components/", "vendor/"))]
    shown = {"index.html", *styles, *scripts, *(name for name in run_page if name.endswith(".js"))}

    assert sum(len(console_files()[name].packed) for name in shown) < MAX_FIRST_PAGE_BYTES


def test_the_files_of_others_are_those_that_were_fetched() -> None:
    sums = {line.split()[1]: line.split()[0] for line in (TARGET / "SHA256SUMS").read_text().splitlines()}

    assert set(sums) == {name for package in PACKAGES for name in package.files.values()}
    assert {path.name for path in TARGET.iterdir()} == {*sums, "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((TARGET / name).read_bytes()).hexdigest() == digest, name
    assert all(any("LICENSE" in name for name in package.files.values()) for package in PACKAGES)


def test_the_console_has_the_client_package_unchanged() -> None:
    sources = {path.name: path.read_bytes() for path in CLIENT.iterdir()}

    assert {path.name: path.read_bytes() for path in CLIENT_COPY.iterdir()} == sources
    packed = sum(len(console_files()[f"client/{name}"].packed) for name in sources if name.endswith(".js"))
    assert packed < MAX_CLIENT_BYTES


def test_no_file_of_the_console_is_long() -> None:
    own = [path for path in FILES.rglob("*.js") if "vendor" not in path.parts]

    assert {path.name for path in own if len(path.read_text().splitlines()) > 400} == set()

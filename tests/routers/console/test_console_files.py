"""The console's files over HTTP: their policy, their caching, their size."""

import hashlib
import re

import pytest

from app.routers.console.bundle import read_module
from app.routers.console.files import FILES, SCRIPT, STYLE_ORDER, STYLES, console_files, sources
from app.routers.console.routes import PAGES
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
    assert (rules["default-src"], rules["style-src"], rules["script-src"]) == ("'none'", "'self'", "'self'")
    assert (rules["connect-src"], rules["base-uri"], rules["frame-ancestors"]) == ("'self'", "'none'", "'none'")
    assert "unsafe" not in policy
    assert "://" not in answer.text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=| src=)", answer.text)


async def test_a_browser_caches_a_file_and_revalidates_it(shared_service: Service) -> None:
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


async def test_the_page_names_its_scripts_and_its_styles_by_their_content(shared_service: Service) -> None:
    page = await shared_service.http.get("/runs")
    addresses = re.findall(r'(?:src|href)="(/console/[^"]+)"', page.text)
    answers = {address: await shared_service.http.get(address) for address in addresses}

    assert {re.sub(r"\.[0-9a-f]{16}\.", ".", address) for address in addresses} == {
        *("/console/first.js", "/console/console.js", "/console/console.css", "/console/icon.svg"),
    }
    for address, answer in answers.items():
        assert address.split(".")[1] == hashlib.sha256(answer.content).hexdigest()[:16]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"


async def test_a_page_of_another_version_gets_the_file_of_this_one_for_now(shared_service: Service) -> None:
    answer = await shared_service.http.get("/console/console.0123456789abcdef.js")

    assert answer.content == console_files()[SCRIPT].content
    assert answer.headers["cache-control"] == "no-cache"


def test_the_first_page_is_small() -> None:
    assert sum(len(console_files()[name].packed) for name in ("index.html", SCRIPT, STYLES, "icon.svg")) < (
        MAX_FIRST_PAGE_BYTES
    )


def test_the_styles_are_all_sent() -> None:
    assert {f"styles/{name}.css" for name in STYLE_ORDER} == {name for name in sources() if name.endswith(".css")}


def test_every_module_is_in_the_script() -> None:
    modules = {name for name in sources() if name.endswith(".js") and name != "first.js"}
    sent = re.findall(r'^"([^"]+)": \(\) => \{$', console_files()[SCRIPT].content.decode(), re.MULTILINE)

    assert set(sent) == modules
    assert len(sent) == len(modules)
    for name in modules:
        read = read_module(name, sources()[name].decode())
        assert {*read.uses, *read.pages} <= modules, name
        assert all(sent.index(used) < sent.index(name) for used in read.uses), name


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

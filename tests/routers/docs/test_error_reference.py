"""`/docs/errors` explains each code, and the `type` of each problem leads there."""

import pytest

from app.routers.docs.error_reference import error_codes, in_html
from tests.fixtures.http_api import assert_problem
from tests.fixtures.services import Service


async def test_the_type_of_a_problem_is_the_path_of_a_page_about_its_code(shared_service: Service) -> None:
    problem = (await shared_service.http.get("/api/v1/agents/missing-agent")).json()

    page = await shared_service.http.get(problem["type"])

    assert problem["type"] == "/docs/errors/agent-not-found"
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>agent-not-found</h1>" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_the_index_links_every_code(shared_service: Service) -> None:
    index = (await shared_service.http.get("/docs/errors")).text

    assert [code for code in error_codes() if f'href="/docs/errors/{code}"' not in index] == []


@pytest.mark.parametrize("code", ["missing-code", "%3Cscript%3E"])
async def test_an_unknown_code_is_a_problem(shared_service: Service, code: str) -> None:
    assert_problem(await shared_service.http.get(f"/docs/errors/{code}"), 404, "error-code-not-found")


def test_explanations_are_escaped() -> None:
    assert in_html("Set `<key>` & wait.") == "Set <code>&lt;key&gt;</code> &amp; wait."

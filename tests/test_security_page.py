"""docs/security.md names tests as evidence: each of them exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TEST_PATHS = sorted(set(re.findall(r"`(tests/[^`\s]*)`", PAGE)))
LINKS = sorted(set(re.findall(r"\]\((?!https?:)([^)#\s]+)", PAGE)))


def test_the_page_names_tests() -> None:
    assert len(TEST_PATHS) > 30


@pytest.mark.parametrize("path", TEST_PATHS)
def test_a_test_that_the_page_names_exists_and_has_tests(path: str) -> None:
    named = ROOT / path
    assert named.exists(), f"docs/security.md names {path}, which does not exist"
    files = [named] if named.is_file() else list(named.rglob("test_*.py"))
    assert files
    for file in files:
        assert re.search(r"^(async )?def test_", file.read_text(encoding="utf-8"), re.MULTILINE), file


@pytest.mark.parametrize("link", LINKS)
def test_a_link_of_the_page_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists(), f"docs/security.md links to {link}, which does not exist"

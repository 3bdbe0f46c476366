"""The docs check names each banned phrase and each broken link with its file and line."""

from pathlib import Path

import pytest

from scripts.check_style import ROOT, STYLE, check


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with nothing but the style page."""
    (tmp_path / STYLE).parent.mkdir(parents=True)
    (tmp_path / STYLE).write_text((ROOT / STYLE).read_text())
    return tmp_path


def test_the_pages_of_this_project_pass() -> None:
    assert check(ROOT) == []


@pytest.mark.parametrize("text", ["It goes on.", "It goes\non.", "Written ANEW."])
def test_a_banned_phrase_is_named_with_its_line(project: Path, text: str) -> None:
    (project / "README.md").write_text(f"# Title\n\n{text}\n")

    (problem,) = check(project)

    assert problem.startswith("README.md:3: '")
    assert problem.endswith("is banned, see docs/contributing/style.md")


def test_code_and_longer_words_are_not_phrases(project: Path) -> None:
    (project / "README.md").write_text("`anew` and ``go on``\n```\nsomebody\n```\nIt can go only one way: amend it.\n")

    assert check(project) == []


@pytest.mark.parametrize(
    ("link", "reason"),
    [("docs/missing.md", "no file"), ("#missing", "no heading"), ("docs/contributing/style.md#missing", "no heading")],
)
def test_a_link_that_leads_nowhere_is_named_with_its_line(project: Path, link: str, reason: str) -> None:
    (project / "README.md").write_text(f"# Title\n[a page]({link})\n")

    assert check(project) == [f"README.md:2: {link} leads to {reason}"]


@pytest.mark.parametrize(
    "link", ["docs", "#a-title-of-code", "docs/contributing/style.md#log-events", "https://a.test/b"]
)
def test_a_link_to_an_existing_place_passes(project: Path, link: str) -> None:
    (project / "README.md").write_text(f"# A title, of `code`\n[a place]({link})\n")

    assert check(project) == []

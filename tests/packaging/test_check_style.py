"""The docs check names each banned phrase and each broken link with its file and line."""

from pathlib import Path

import pytest

from scripts.check_style import ROOT, STYLE, check, check_code


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
    [
        ("docs/missing.md", "a missing file"),
        ("#missing", "a missing heading"),
        ("docs/contributing/style.md#missing", "a missing heading"),
    ],
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


@pytest.mark.slow
def test_the_checked_code_of_this_project_passes() -> None:
    assert check_code(ROOT) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('"""A module."""\n# It is written anew.\n', "room/module.py:2: 'anew' is banned"),
        ('TEXT = """First line.\nIt goes\non."""\n', "room/module.py:2: 'goes on' is banned"),
        ("def test_it_goes_on() -> None: ...\n", "room/module.py:1: 'goes on' is banned"),
        ('"""What a module is."""\n', "room/module.py:1: a docstring begins with 'What'"),
        ('def root() -> None:\n    """Returns the root."""\n', "room/module.py:1: the docstring of 'root' begins with"),
        ("def test_who_waits() -> None: ...\n", "room/module.py:1: a test name begins with 'who'"),
    ],
)
def test_a_banned_phrase_of_a_module_is_named_with_its_line(project: Path, source: str, problem: str) -> None:
    (project / "room").mkdir()
    (project / "room" / "module.py").write_text(source)

    (found,) = check_code(project, ("room",))

    assert found.startswith(problem)


def test_identifiers_other_than_those_of_tests_are_not_phrases(project: Path) -> None:
    (project / "room").mkdir()
    (project / "room" / "module.py").write_text('"""A module."""\n\nanew = 1\nfor_ever = anew\n')

    assert check_code(project, ("room",)) == []

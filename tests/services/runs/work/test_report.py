"""A department's report, apart from the run that makes it."""

import pytest

from app.services.runs.work.execution_run import text_output
from app.services.runs.work.report import MAX_SUMMARY_CHARACTERS, department_report, summary_of


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("## Summary\nAll is well.\n\n## More\nText.", "All is well."),
        ("## Summary\n\nAll is well.\n\n## More\nText.", "All is well."),
        ("# Report\n\nHello.\n\n## Summary\nAll is well.", "All is well."),
        ("**Summary:**\nAll is well.\n\nMore.", "All is well."),
        ("## SUMMARY\r\nAll is well.\r\n\r\n## More\r\nText.", "All is well."),
        ("# Report\n\nThe first paragraph.\n\nThe second.", "The first paragraph."),
        ("Only text.", "Only text."),
        ("## Summary", ""),
        ("# Only a heading", ""),
        ("", ""),
        ("\n\n \n\n", ""),
        ("## Summary of it\nNot the section.\n\nBut this.", "But this."),
    ],
)
def test_the_summary_is_the_section_of_that_name_or_else_the_first_paragraph(text: str, summary: str) -> None:
    assert summary_of(text) == summary


def test_an_endless_summary_is_cut() -> None:
    assert len(summary_of("word " * 1000)) == MAX_SUMMARY_CHARACTERS


def test_a_report_without_specialists_or_score_has_all_its_parts() -> None:
    assert department_report("story", "Alone.", [], None) == {
        "department": "story",
        "summary": "Alone.",
        "text": "Alone.",
        "specialists": [],
        "gates": [],
    }


def test_a_report_ends_with_the_department_s_own_gate() -> None:
    gate = {"name": "department", "threshold": 0.6, "passed": True, "score": 0.9, "issues": []}

    report = department_report("story", "Alone.", [], {"gate": gate})

    assert report["gates"] == [gate]


def test_json_that_would_fill_a_document_stays_text() -> None:
    text = "[" + "1," * 100_000 + "1]"

    assert text_output(text) == {"text": text, "data": None}
    assert text_output("[1, 1]") == {"text": "[1, 1]", "data": [1, 1]}

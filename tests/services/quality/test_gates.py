"""The three gates."""

import pytest

from app.services.quality.gates import DEFAULT_THRESHOLDS, GateName, pass_gate
from app.services.quality.scores import calculate_score, weights_of


def test_the_thresholds_are_those_of_the_contract() -> None:
    assert {name.value: threshold for name, threshold in DEFAULT_THRESHOLDS.items()} == {
        "specialist": 0.50,
        "department": 0.60,
        "orchestrator": 0.75,
    }


@pytest.mark.parametrize("name", list(GateName))
@pytest.mark.parametrize(("offset", "passed"), [(0.0, True), (0.000001, True), (-0.000001, False)])
def test_a_gate_passes_at_exactly_its_threshold(name: GateName, offset: float, passed: bool) -> None:
    assert pass_gate(name, 0.6, 0.6 + offset, {}).passed is passed


@pytest.mark.parametrize("slug", ["story", "character", "visual", "video", "audio", "production", "any-other"])
@pytest.mark.parametrize("name", list(GateName))
def test_rounding_errors_of_a_weighted_mean_do_not_fail_a_gate(slug: str, name: GateName) -> None:
    threshold = DEFAULT_THRESHOLDS[name]
    dimensions = dict.fromkeys(weights_of(slug), threshold)

    assert pass_gate(name, threshold, calculate_score(dimensions, weights_of(slug)), dimensions).passed


def test_a_gate_s_issues_name_the_score_and_each_weak_dimension_the_weakest_first() -> None:
    gate = pass_gate(GateName.DEPARTMENT, 0.6, 0.55, {"relevance": 0.5, "creativity": 0.2, "technical": 0.9})

    assert gate.as_json() == {
        "name": "department",
        "threshold": 0.6,
        "passed": False,
        "score": 0.55,
        "issues": [
            "The score 0.55 is below the department gate's 0.60.",
            "creativity is 0.20, below 0.60: replace the expected choice by one that only this project could have",
            "relevance is 0.50, below 0.60: cut what the request does not ask for",
        ],
    }


def test_a_gate_that_passes_still_names_a_weak_dimension() -> None:
    gate = pass_gate(GateName.SPECIALIST, 0.5, 0.8, {"relevance": 0.9, "creativity": 0.4})

    assert (gate.passed, len(gate.issues)) == (True, 1)
    assert gate.issues[0].startswith("creativity is 0.40, below 0.50: ")


@pytest.mark.parametrize(("reason", "issue"), [(None, "There is no score."), ("The judge slept.", "The judge slept.")])
def test_without_a_score_no_gate_passes(reason: str | None, issue: str) -> None:
    gate = pass_gate(GateName.SPECIALIST, 0.5, None, {}, reason)

    assert (gate.passed, gate.score, gate.issues) == (False, None, (issue,))

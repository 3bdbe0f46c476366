"""The weighted score of an output."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.quality.scores import (
    DEFAULT_WEIGHTS,
    DEPARTMENT_WEIGHTS,
    calculate_score,
    usable_dimensions,
    weights_of,
)

NAMES = ("confidence", "completeness", "relevance", "consistency", "creativity", "technical")
UNEVEN: dict[str, float] = dict(zip(NAMES, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), strict=True))
SLUGS = (*DEPARTMENT_WEIGHTS, "any-other")

dimensions = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1), min_size=1)


@pytest.mark.parametrize(
    ("slug", "weights"),
    [
        ("story", (0.10, 0.25, 0.20, 0.25, 0.15, 0.05)),
        ("character", (0.15, 0.20, 0.20, 0.30, 0.10, 0.05)),
        ("visual", (0.10, 0.20, 0.15, 0.20, 0.25, 0.10)),
        ("video", (0.10, 0.20, 0.15, 0.15, 0.15, 0.25)),
        ("audio", (0.10, 0.20, 0.15, 0.20, 0.15, 0.20)),
        ("production", (0.15, 0.30, 0.20, 0.20, 0.05, 0.10)),
        ("any-other", (0.15, 0.25, 0.20, 0.20, 0.10, 0.10)),
    ],
)
def test_each_department_weighs_as_the_research_report_says(slug: str, weights: tuple[float, ...]) -> None:
    assert tuple(weights_of(slug)[name] for name in NAMES) == weights
    assert math.fsum(weights_of(slug).values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("slug", "score"),
    [
        # 0.5, 0.6, 0.7, 0.8, 0.9, 1.0 by the weights above, added up by hand
        ("story", 0.725),
        ("character", 0.715),
        ("visual", 0.76),
        ("video", 0.78),
        ("audio", 0.77),
        ("production", 0.70),
        ("any-other", 0.715),
    ],
)
def test_a_score_is_the_weighted_mean(slug: str, score: float) -> None:
    assert calculate_score(UNEVEN, weights_of(slug)) == score


@pytest.mark.parametrize(
    ("present", "score"),
    [
        ({"confidence": 0.4}, 0.4),
        ({"confidence": 1.0, "technical": 0.0}, 0.6),  # 0.15 of 0.25
        ({"completeness": 1.0, "relevance": 0.1, "unknown": 0.0}, 0.6),  # (0.25 + 0.02) of 0.45
        ({}, None),
        ({"unknown": 1.0}, None),
    ],
)
def test_missing_dimensions_are_left_out_and_the_rest_normalised(
    present: dict[str, float], score: float | None
) -> None:
    assert calculate_score(present, DEFAULT_WEIGHTS) == score


def test_a_dimension_without_weight_does_not_count() -> None:
    assert calculate_score({"confidence": 0.2, "technical": 1.0}, {"confidence": 0.5, "technical": 0}) == 0.2


@given(dimensions, st.sampled_from(SLUGS))
def test_a_score_lies_between_the_lowest_and_the_highest_dimension(present: dict[str, float], slug: str) -> None:
    score = calculate_score(present, weights_of(slug))

    assert score is not None
    assert min(present.values()) - 1e-9 <= score <= max(present.values()) + 1e-9
    assert 0 <= score <= 1


@given(st.floats(0, 1), st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(SLUGS))
def test_equal_dimensions_score_their_common_value(value: float, names: set[str], slug: str) -> None:
    assert calculate_score(dict.fromkeys(names, value), weights_of(slug)) == pytest.approx(value, abs=1e-9)


@given(dimensions, st.sampled_from(SLUGS), st.floats(0.001, 1000))
def test_only_the_proportions_of_the_weights_matter(present: dict[str, float], slug: str, factor: float) -> None:
    scaled = {name: weight * factor for name, weight in weights_of(slug).items()}

    assert calculate_score(present, scaled) == pytest.approx(calculate_score(present, weights_of(slug)), abs=2e-9)


@given(dimensions, st.sampled_from(NAMES), st.sampled_from(SLUGS))
def test_a_better_dimension_never_lowers_the_score(present: dict[str, float], name: str, slug: str) -> None:
    present = {**present, name: 0.5}

    before = calculate_score(present, weights_of(slug))
    after = calculate_score({**present, name: 0.75}, weights_of(slug))

    assert before is not None
    assert after is not None
    assert after > before


@pytest.mark.parametrize(
    "odd", [97, -0.01, 1.0000001, float("nan"), float("inf"), "high", "0.9", None, True, False, [0.9], {"value": 0.9}]
)
def test_values_that_are_not_numbers_from_0_to_1_are_left_out_and_never_clamped(odd: object) -> None:
    assert usable_dimensions({**UNEVEN, "creativity": odd}) == {
        name: value for name, value in UNEVEN.items() if name != "creativity"
    }


@pytest.mark.parametrize("edge", [0, 1, 0.0, 1.0, 1e-300])
def test_the_bounds_themselves_are_usable(edge: float) -> None:
    assert usable_dimensions({"technical": edge, "reasoning": "Because.", "other": 0.5}) == {"technical": edge}

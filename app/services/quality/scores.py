"""The score of an output: six dimensions, weighted by department (section 4.2 of the research report)."""

import math
from collections.abc import Mapping
from typing import Any

from app.models.catalog.quality_weights import DEFAULT_SLUG

Weights = Mapping[str, float]

DEFAULT_WEIGHTS: Weights = {
    "confidence": 0.15,
    "completeness": 0.25,
    "relevance": 0.20,
    "consistency": 0.20,
    "creativity": 0.10,
    "technical": 0.10,
}

DEPARTMENT_WEIGHTS: Mapping[str, Weights] = {
    "story": {
        "confidence": 0.10,
        "completeness": 0.25,
        "relevance": 0.20,
        "consistency": 0.25,
        "creativity": 0.15,
        "technical": 0.05,
    },
    "character": {
        "confidence": 0.15,
        "completeness": 0.20,
        "relevance": 0.20,
        "consistency": 0.30,
        "creativity": 0.10,
        "technical": 0.05,
    },
    "visual": {
        "confidence": 0.10,
        "completeness": 0.20,
        "relevance": 0.15,
        "consistency": 0.20,
        "creativity": 0.25,
        "technical": 0.10,
    },
    "video": {
        "confidence": 0.10,
        "completeness": 0.20,
        "relevance": 0.15,
        "consistency": 0.15,
        "creativity": 0.15,
        "technical": 0.25,
    },
    "audio": {
        "confidence": 0.10,
        "completeness": 0.20,
        "relevance": 0.15,
        "consistency": 0.20,
        "creativity": 0.15,
        "technical": 0.20,
    },
    "production": {
        "confidence": 0.15,
        "completeness": 0.30,
        "relevance": 0.20,
        "consistency": 0.20,
        "creativity": 0.05,
        "technical": 0.10,
    },
}


def weights_of(department_slug: str, stored: Mapping[str, Weights] | None = None) -> Weights:
    """Return the weights for a department: stored ones before the report's, its own before the default.

    `stored` holds weights by department, with the stored default under `default`.
    """
    given = stored or {}
    own = given.get(department_slug) or DEPARTMENT_WEIGHTS.get(department_slug)
    return own or given.get(DEFAULT_SLUG) or DEFAULT_WEIGHTS


def usable_dimensions(answer: Mapping[str, Any]) -> dict[str, float]:
    """Return the dimensions of a judge's answer that are numbers from 0 to 1; others are left out, not clamped."""
    return {
        name: float(value)
        for name in DEFAULT_WEIGHTS
        if isinstance(value := answer.get(name), int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= 1
    }


def calculate_score(dimensions: Mapping[str, float], weights: Weights) -> float | None:
    """Return the weighted mean of the dimensions, 0 to 1, or `None` if no dimension has a weight.

    Rounding errors are removed from a sum close to an exact value, so that a gate passes at its threshold.
    """
    present = [(value, weights[name]) for name, value in dimensions.items() if weights.get(name)]
    total = math.fsum(weight for _, weight in present)
    if total <= 0:
        return None
    return round(math.fsum(value * weight for value, weight in present) / total, 9)

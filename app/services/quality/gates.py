"""The three quality gates, with advice for outputs that do not pass."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.kit.described_enums import DescribedEnum
from app.kit.json_values import JsonObject
from app.settings import Settings


class GateName(DescribedEnum):
    """The output that a gate checks."""

    SPECIALIST = "specialist"
    """The output of a specialist, or of a single agent's run."""
    DEPARTMENT = "department"
    """The report of a department."""
    ORCHESTRATOR = "orchestrator"
    """The result of an orchestration."""


Thresholds = Mapping[GateName, float]
DEFAULT_THRESHOLDS: Thresholds = {
    GateName.SPECIALIST: 0.50,
    GateName.DEPARTMENT: 0.60,
    GateName.ORCHESTRATOR: 0.75,
}


def gate_thresholds(settings: Settings) -> Thresholds:
    """Return the score from 0 to 1 that each gate requires."""
    return {
        GateName.SPECIALIST: settings.specialist_gate,
        GateName.DEPARTMENT: settings.department_gate,
        GateName.ORCHESTRATOR: settings.orchestrator_gate,
    }


ADVICE: Mapping[str, str] = {
    "confidence": "support its claims, and say what could not be known",
    "completeness": "answer every part of the request",
    "relevance": "cut what the request does not ask for",
    "consistency": "resolve what contradicts itself or the material given",
    "creativity": "replace the expected choice by one that only this project could have",
    "technical": "correct the craft: form, figures, terms",
}
"""Advice for each weak dimension."""


@dataclass(frozen=True)
class QualityGate:
    """A verdict of a gate; `score` and `threshold` are 0 to 1. It passes at exactly its threshold."""

    name: GateName
    threshold: float
    passed: bool
    score: float | None
    issues: tuple[str, ...]

    def as_json(self) -> JsonObject:
        """Return the wire form."""
        return {
            "name": self.name.value,
            "threshold": self.threshold,
            "passed": self.passed,
            "score": self.score,
            "issues": list(self.issues),
        }


def pass_gate(
    name: GateName,
    threshold: float,
    score: float | None,
    dimensions: Mapping[str, float],
    unscored: str | None = None,
) -> QualityGate:
    """Check a score against a gate. Without a score it does not pass; `unscored` gives the reason."""
    if score is None:
        return QualityGate(name, threshold, passed=False, score=None, issues=(unscored or "There is no score.",))
    weak = sorted((value, dimension) for dimension, value in dimensions.items() if value < threshold)
    issues = [f"{dimension} is {value:.2f}, below {threshold:.2f}: {ADVICE[dimension]}" for value, dimension in weak]
    passed = score >= threshold
    if not passed:
        issues.insert(0, f"The score {score:.2f} is below the {name.value} gate's {threshold:.2f}.")
    return QualityGate(name, threshold, passed, score, tuple(issues))


def meets_threshold(score: float | None, threshold: float | None) -> bool | None:
    """Return whether a score reaches the agent's threshold, both 0 to 100; `None` without either."""
    return None if score is None or threshold is None else score >= threshold

"""The alert rules and the dashboard parse, and name series and labels that the service has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from app.telemetry.metrics import LABELS, PREFIX

DEPLOY = Path(__file__).parents[2] / "deploy"
SUFFIXES = ("_bucket", "_count", "_sum", "_total")
INTERVAL = "$__rate_interval"
SERIES = re.compile(rf"{PREFIX}\w+")
GROUPED = re.compile(r"\bby \(([\w, ]+)\)")


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    content = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard."""
    return json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]


def expressions() -> Iterator[str]:
    """Every expression of the rules and of the panels."""
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


def labels_of(series: str) -> set[str]:
    """The labels of a series that the service has."""
    name = next((name for name in LABELS if series in {name, *(name + suffix for suffix in SUFFIXES)}), None)
    assert name, f"There is no series {series}."
    return {*LABELS[name], "le"}


@pytest.mark.parametrize("expression", list(expressions()))
def test_an_expression_parses_and_names_existing_series_and_labels(expression: str) -> None:
    promql_parser.parse(expression.replace(INTERVAL, "5m"))

    known = [labels_of(series) for series in SERIES.findall(expression)]

    assert known
    for group in GROUPED.findall(expression):
        assert set(group.split(", ")) <= set.union(*known)


def test_an_unknown_series_is_found() -> None:
    with pytest.raises(AssertionError, match="no series"):
        labels_of(f"{PREFIX}no_such_total")


def test_each_alert_says_how_bad_it_is_what_happened_and_what_to_do() -> None:
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "action"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_the_dashboard_shows_every_series_of_the_service() -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name in SERIES.findall(target["expr"])}

    assert {family for family in LABELS if not any(name.startswith(family) for name in shown)} == set()


def test_the_guide_explains_every_alert() -> None:
    guide = (DEPLOY.parent / "docs" / "how-to" / "monitor-the-service.md").read_text()

    assert [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in guide] == []

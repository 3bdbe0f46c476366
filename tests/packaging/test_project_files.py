"""The files around the code parse and refer to what exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.processes import ROOT

FILES = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name_of(path: Path) -> str:
    """A file's path in the checkout."""
    return str(path.relative_to(ROOT))


def steps_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_project_file_is_valid_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflows_bound_their_permissions_and_time_and_pin_their_actions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())

    assert workflow["permissions"] == {"contents": "read"}
    assert all("uses" in job or job["timeout-minutes"] <= 180 for job in workflow["jobs"].values())
    assert all(re.search(r"@v\d+$", step["uses"]) for step in steps_of(workflow) if "uses" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_workflows_call_make_targets_that_exist(path: Path) -> None:
    commands = " ".join(step.get("run", "") for step in steps_of(yaml.safe_load(path.read_text())))

    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= TARGETS


def test_ci_checks_every_python_version_that_the_package_names() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())

    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == named


def test_a_release_publishes_an_image_with_sbom_and_provenance() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    (build,) = (step["with"] for step in steps_of(workflow) if "build-push-action" in step.get("uses", ""))

    assert (build["sbom"], build["provenance"], build["push"]) == (True, "mode=max", True)


@pytest.mark.parametrize("path", [*FILES, ROOT / "pyproject.toml"], ids=name_of)
def test_project_files_name_no_address_of_a_repository(path: Path) -> None:
    assert "://" not in path.read_text()


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=name_of)
def test_issue_forms_have_the_required_fields(form: Path) -> None:
    content = yaml.safe_load(form.read_text())

    assert {"name", "description", "body"} <= content.keys()
    assert all({"type", "attributes"} <= field.keys() for field in content["body"])
    identifiers = [field["id"] for field in content["body"] if field["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers)

"""The canary tries every package whose internals the service touches, with tests that exist."""

import re
from itertools import chain

import pytest

from scripts.canary import SEAMS, bounded_requirements
from tests.fixtures.processes import ROOT

TOUCHED = ("beanie", "fastapi", "litellm", "mcp", "pymongo", "quickjs-rs", "starlette", "uvicorn", "wasmtime")


def test_every_package_with_touched_internals_is_tried() -> None:
    assert set(TOUCHED) <= SEAMS.keys()


@pytest.mark.parametrize("package", SEAMS)
def test_every_tried_package_has_an_upper_bound(package: str) -> None:
    assert re.search(r"<\d|==", bounded_requirements()[package])


@pytest.mark.parametrize("path", sorted(set(chain.from_iterable(SEAMS.values()))))
def test_every_named_test_exists(path: str) -> None:
    assert (ROOT / path).exists()

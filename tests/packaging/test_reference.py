"""The generated pages of the reference are current and complete."""

import re

from app.errors import AppError
from app.routers.docs.error_reference import PLACES, error_codes
from app.settings import Settings
from scripts.generate_reference import REFERENCE, class_statuses, outdated, subclasses


def test_the_generated_pages_are_current() -> None:
    assert outdated() == [], "run python -m scripts.generate_reference"


def test_every_setting_is_explained() -> None:
    names = re.findall(r"^\| `([A-Z_]+)` \| .+ \| .+ \| .+ \|$", (REFERENCE / "settings.md").read_text(), re.MULTILINE)

    assert names == [name.upper() for name in Settings.model_fields]


def test_every_code_of_an_error_class_is_explained() -> None:
    statuses = class_statuses()

    assert len(list(subclasses(AppError))) > 50
    assert set(statuses) <= set(error_codes())
    assert all(set(one.where) <= set(PLACES) for one in error_codes().values())
    assert all(one.status or one.code in statuses for one in error_codes().values() if "http" in one.where)

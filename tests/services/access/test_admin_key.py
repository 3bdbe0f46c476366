"""The bootstrap admin key of an embedded installation, in its file."""

from pathlib import Path

import pytest

from app.errors import StartupError
from app.services.access.admin_key import load_admin_key
from app.settings import Settings


def test_a_kept_key_that_can_be_guessed_stops_the_start_and_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "admin-key").write_text("short\n")

    with pytest.raises(StartupError, match="fewer than 16 characters") as caught:
        load_admin_key(Settings(data_dir=tmp_path))

    assert str(tmp_path / "admin-key") in str(caught.value)
    assert "short" not in str(caught.value)


def test_a_key_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new")

    made, kept = load_admin_key(settings), load_admin_key(settings)

    assert (made.is_new, kept.is_new, kept.text) == (True, False, made.text)
    assert made.path is not None
    assert made.path.stat().st_mode & 0o777 == 0o600

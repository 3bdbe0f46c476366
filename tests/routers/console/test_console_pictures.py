"""The pictures of the documentation: every page is drawn, and none is missing in `docs/console`."""

from pathlib import Path

import pytest

from scripts.draw_console import PAGES, TARGET, draw_all
from tests.fixtures.browser import need_chromium

MIN_BYTES = 15_000
"""A picture of an empty page is smaller."""


def sizes_in(directory: Path) -> dict[str, int]:
    """The sizes of the pictures in a directory, by name."""
    return {picture.name: picture.stat().st_size for picture in directory.glob("*.png")}


@pytest.mark.long
async def test_every_page_is_drawn_in_each_color_scheme_and_width(tmp_path: Path) -> None:
    need_chromium()

    await draw_all(tmp_path)

    drawn = sizes_in(tmp_path)
    assert len(drawn) == 4 * len(PAGES)
    assert {name for name, size in drawn.items() if size < MIN_BYTES} == set()
    assert drawn.keys() == sizes_in(TARGET).keys()

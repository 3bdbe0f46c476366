"""Draw `docs/images/run.svg`: the first and last lines that `dynamic-agents demo` prints, from a real run.

`python -m scripts.draw_run`
"""

import asyncio
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from app.cli.demo import run_demo
from app.settings import Settings

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "run.svg"
COLUMNS = 132
FIRST_LINES, LAST_LINES = 34, 14
REMOTE_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


async def demo_output() -> list[str]:
    """The lines of a demo run, with their colors as ANSI codes."""
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True, color_system="truecolor")
    with tempfile.TemporaryDirectory() as directory:
        await run_demo(Settings(data_dir=Path(directory)), console)
    return console.export_text(styles=True).splitlines()


def picture_of(lines: list[str]) -> str:
    """A terminal with these lines, as SVG without fonts from other hosts."""
    canvas = Console(file=io.StringIO(), record=True, width=COLUMNS)
    for line in lines:
        canvas.print(Text.from_ansi(line), no_wrap=True, overflow="crop", crop=True)
    drawn = canvas.export_svg(title="make demo", unique_id="run")
    return REMOTE_FONTS.sub("", drawn).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def main() -> None:
    """Run the demo and draw it."""
    lines = asyncio.run(demo_output())
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture_of([*lines[:FIRST_LINES], "  …", *lines[-LAST_LINES:]]))


if __name__ == "__main__":
    main()

"""The console of a command: colored on a terminal, plain elsewhere."""

from rich.console import Console

PLAIN_WIDTH = 180


class CommandConsole(Console):
    """A console whose reader may leave early, as in `dynamic-agents doctor | head -3`."""

    def on_broken_pipe(self) -> None:
        """Raise the error; rich would exit at once and leave everything open."""
        raise BrokenPipeError


def run_console() -> Console:
    """Return a console that is colored on a terminal, and plain with long lines elsewhere; brackets are text."""
    console = CommandConsole(highlight=False, markup=False)
    return console if console.is_terminal else CommandConsole(highlight=False, markup=False, width=PLAIN_WIDTH)

"""The console of a command: colored on a terminal, plain anywhere else."""

from rich.console import Console

PLAIN_WIDTH = 180


class CommandConsole(Console):
    """A console of a command whose reader may leave early, as in `dynamic-agents doctor | head -3`."""

    def on_broken_pipe(self) -> None:
        """Raise the error itself; rich would leave the process where it stands, with everything still open."""
        raise BrokenPipeError


def run_console() -> Console:
    """A console that is colored on a terminal, and plain, with long lines, anywhere else."""
    console = CommandConsole(highlight=False)
    return console if console.is_terminal else CommandConsole(highlight=False, width=PLAIN_WIDTH)

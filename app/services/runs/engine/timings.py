"""The intervals and time limits of the run engine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Intervals and limits of one process, in seconds.

    Leases last longer than `give_up_seconds`, so a process that cannot renew stops its runs before others take them.
    """

    lease_seconds: float = 15.0
    """How long a lease lasts unless it is renewed."""
    renew_every_seconds: float = 4.0
    watch_every_seconds: float = 0.4
    """How often a process checks whether another has taken over or cancelled one of its trees."""
    answer_seconds: float = 3.0
    """How long the database may take to answer a renewal."""
    give_up_seconds: float = 10.0
    """How long after the last renewal a process stops its runs."""
    look_every_seconds: float = 1.5
    """How often a process looks for waiting runs without a wake-up."""
    cancel_seconds: float = 5.0
    """How long a cancel waits until the end of the tree is stored."""


DEFAULT_TIMINGS = Timings()

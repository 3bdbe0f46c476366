"""How a process came to own a run tree."""

from dataclasses import dataclass
from enum import StrEnum

from app.services.catalog.definitions import AgentDefinition


@dataclass(frozen=True)
class Accepted:
    """The process has just stored the root, which has no events yet; `agent` is the definition it was accepted with."""

    agent: AgentDefinition


class Claimed(StrEnum):
    """The tree was stored before: its owner reads it from the database and resolves its agent again."""

    RECOVERED = "recovered"
    """Taken from the queue: new, handed over, or left by a process that died."""
    CANCELLED = "cancelled"
    """Taken in order to end it as cancelled."""
    REOPENED = "reopened"
    """It had ended; a person has requested a revision."""


Origin = Accepted | Claimed

"""How a process came to own a run tree."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from app.services.catalog.definitions import AgentDefinition
from app.services.runs.material.cms_documents import CmsContext


@dataclass(frozen=True)
class Accepted:
    """The process has just stored the root, which has no events yet; `agent` is the definition it was accepted with."""

    agent: AgentDefinition
    cms: asyncio.Task[CmsContext | None]
    """Reads the run's project and episode, since before the root was stored; its result is `None` if that fails."""


class Claimed(StrEnum):
    """The tree was stored before: its owner resolves its agent again, and reads the tree if any process has run it."""

    RECOVERED = "recovered"
    """Taken from the queue: new, handed over, or left by a process that died."""
    CANCELLED = "cancelled"
    """Taken in order to end it as cancelled."""
    REOPENED = "reopened"
    """It had ended; a person has requested a revision."""


Origin = Accepted | Claimed

"""Events that do not fit into the document of their execution: pages of further rows, and full oversized payloads.

These collections belong to the service; Payload does not use them. A page is written in the same transaction as the
fenced update of its execution, so it does not need a fence.
"""

from datetime import datetime
from typing import Annotated, Any

from beanie import Document
from pydantic import ConfigDict, Field

from app.kit.times import utc_now
from app.models.base import Rows, own_index, stored_name


class ExecutionEventPage(Document):
    """Rows of one execution in the form of its `events`, from `firstSeq` to `lastSeq` of its tree."""

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    execution_id: str
    root_execution_id: str
    first_seq: int
    last_seq: int
    events: Annotated[list[dict[str, Any]], Rows] = Field(default_factory=list)
    created_at: datetime = Field(default_factory=utc_now)

    class Settings:
        """Collection and indexes."""

        name = "agent-execution-events"
        indexes = (own_index("rootExecutionId", "lastSeq", "firstSeq"), own_index("executionId", "firstSeq"))


class ArchivedCalls(Document):
    """The ledger rows of some events of an archived execution, in the form of a page: they stay in the database.

    Each row of `events` holds `{"event": {"seq", "calls"}}`.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    execution_id: str
    root_execution_id: str
    last_seq: int
    events: Annotated[list[dict[str, Any]], Rows] = Field(default_factory=list)

    class Settings:
        """Collection and indexes."""

        name = "agent-execution-calls"
        indexes = (own_index("rootExecutionId", "lastSeq"), own_index("executionId", "lastSeq"))


class SentPrompt(Document):
    """The messages of a model call as they were sent, found by their hash within a tree."""

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    id: str = ""  # pyright: ignore[reportIncompatibleVariableOverride] - derived from the fields, so equal messages are stored once
    root_execution_id: str
    sha256: str
    messages: list[dict[str, Any]]
    created_at: datetime = Field(default_factory=utc_now)

    class Settings:
        """Collection and indexes."""

        name = "agent-execution-prompts"
        indexes = (own_index("rootExecutionId"),)


class EventPayload(Document):
    """A part of the full JSON text of an event that is truncated in its row.

    `sha256` is the hash of the full text. The row contains it too, so the writes of a process that lost the tree are
    never read.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    id: str = ""  # pyright: ignore[reportIncompatibleVariableOverride] - derived from the fields, so a retry does not insert it twice
    root_execution_id: str
    seq: int
    sha256: str
    part: int
    text: bytes
    created_at: datetime = Field(default_factory=utc_now)

    class Settings:
        """Collection and indexes."""

        name = "agent-execution-payloads"
        indexes = (own_index("rootExecutionId", "seq", "part"),)

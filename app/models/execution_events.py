"""What of an execution's events does not fit into its document: pages of further rows, and oversized payloads whole.

Both are the service's own: Payload knows nothing of these collections. A page is written in one transaction with the
guarded update of its execution, so a page needs no fence of its own.
"""

from datetime import datetime
from typing import Annotated, Any

from beanie import Document
from pydantic import ConfigDict, Field

from app.kit.times import utc_now
from app.models.base import Rows, own_index, stored_name


class ExecutionEventPage(Document):
    """Rows of one execution, in the shape that `events` has there, from `firstSeq` to `lastSeq` of its tree."""

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


class EventPayload(Document):
    """A part of an event's whole JSON text, which its row holds cut.

    `sha256` is that of the whole text: a row names it, so what a process wrote that had lost the tree is never read.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    id: str = ""  # pyright: ignore[reportIncompatibleVariableOverride] - made of the fields: a repeat cannot double
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

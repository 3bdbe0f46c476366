"""A claim of the outbox: the service's own `agent-outbox-claims` collection, which is empty most of the time."""

from datetime import datetime
from typing import Any

from beanie import Document
from pydantic import ConfigDict
from pymongo import ASCENDING, IndexModel

from app.models.base import stored_name


class OutboxClaim(Document):
    """Records that the updates of a mark are stored; it exists until the mark is removed from its execution."""

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    id: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues] - that of the mark
    execution: Any
    """The `_id` of the execution that has, or had, the mark."""
    field: str
    """The place of the mark in the execution."""
    at: datetime

    class Settings:
        """Collection and indexes."""

        name = "agent-outbox-claims"
        indexes = (IndexModel([("at", ASCENDING)], name="at_1"),)

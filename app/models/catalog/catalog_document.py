"""Catalog documents, which a Payload CMS can move to its trash or keep as unpublished drafts."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from app.kit.described_enums import DescribedEnum
from app.models.base import PayloadDocument

DRAFT_STATUS = "draft"


class CatalogState(DescribedEnum):
    """Whether new runs use an entry. The first of these that applies: trashed, draft, inactive, active."""

    ACTIVE = "active"
    """New runs may use the entry."""
    INACTIVE = "inactive"
    """`isActive` is false."""
    DRAFT = "draft"
    """The entry was never published in the CMS, or was unpublished there."""
    TRASHED = "trashed"
    """The entry is in the trash of the CMS."""


class CatalogDocument(PayloadDocument):
    """A department, an agent or a custom tool.

    Payload adds `deletedAt` to collections with its trash switched on and `_status` to those with drafts. The service
    reads both and writes neither; a value of another type must not make the document unreadable.
    """

    deleted_at: Any = None
    payload_status: Any = Field(default=None, alias="_status")

    if TYPE_CHECKING:  # each document declares the field itself, at its position in Payload
        is_active: bool = True

    @property
    def state(self) -> CatalogState:
        """Whether new runs use it."""
        if self.deleted_at:
            return CatalogState.TRASHED
        if self.payload_status == DRAFT_STATUS:
            return CatalogState.DRAFT
        return CatalogState.ACTIVE if self.is_active else CatalogState.INACTIVE

"""The form in which lists are answered."""

from typing import Generic, TypeVar

from app.services.catalog.browsing import Page
from app.services.catalog.shapes import Shape

ItemType = TypeVar("ItemType", bound=Shape)


class PageRead(Shape, Generic[ItemType]):
    """A page of a list; `nextCursor` is null on the last one."""

    items: list[ItemType]
    total: int
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page) -> "PageRead[ItemType]":
        """The shape of a page."""
        return cls.model_validate({"items": page.items, "total": page.total, "nextCursor": page.next_cursor})

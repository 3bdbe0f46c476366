"""The form in which lists are answered."""

import asyncio
from typing import Generic, TypeVar

import orjson
from fastapi import Response

from app.services.catalog.queries import Page
from app.services.catalog.schemas import ApiModel

ItemType = TypeVar("ItemType", bound=ApiModel)
MAX_BYTES_AT_A_TIME = 64 * 1024
"""How much of a large page is encoded before other requests have their turn."""


class PageRead(ApiModel, Generic[ItemType]):
    """A page of a list; `nextCursor` is null on the last one."""

    items: list[ItemType]
    total: int
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page) -> "PageRead[ItemType]":
        """The shape of a page."""
        return cls.model_validate({"items": page.items, "total": page.total, "nextCursor": page.next_cursor})


async def answer_large_page(page: Page) -> Response:
    """The answer of a list whose items may be large, encoded item by item."""
    items: list[bytes] = []
    size_bytes = 0
    for item in page.items:
        items.append(item.model_dump_json(by_alias=True).encode())
        size_bytes += len(items[-1])
        if size_bytes > MAX_BYTES_AT_A_TIME:
            size_bytes = 0
            await asyncio.sleep(0)
    rest = orjson.dumps({"total": page.total, "nextCursor": page.next_cursor})
    return Response(b'{"items":[' + b",".join(items) + b"]," + rest[1:], media_type="application/json")

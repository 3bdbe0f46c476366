"""Pages of lists, as the API returns them."""

import asyncio
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Query, Response
from pydantic import ConfigDict, Field

from app.kit.schemas import ApiModel, Page

ItemType = TypeVar("ItemType", bound=ApiModel)
MAX_BYTES_AT_A_TIME = 64 * 1024
"""Bytes of a large page that are encoded before other requests get their turn."""


def sort_query(**fields: str) -> Any:  # noqa: ANN401 - FastAPI types its parameters so
    """Describe the `sort` parameter of a list: each field by its name, with its meaning."""
    listed = ", ".join(f"`{name}` ({meaning})" for name, meaning in fields.items())
    return Query(description=f"The field to sort by: {listed}. Prefix it with a minus for descending order.")


class PageRead(ApiModel, Generic[ItemType]):
    """A page of a list."""

    # Pydantic would look for the source of each `PageRead[…]`, which has none.
    model_config = ConfigDict(use_attribute_docstrings=False, json_schema_extra={"description": "A page of a list."})

    items: list[ItemType] = Field(description="The items of the page, in the order of `sort`.")
    total: int = Field(description="The number of items on all pages.")
    next_cursor: str | None = Field(description="The `cursor` of the next page; `null` on the last page.")

    @classmethod
    def of(cls, page: Page) -> "PageRead[ItemType]":
        """Return a page in the shape of the API."""
        return cls.model_validate({"items": page.items, "total": page.total, "nextCursor": page.next_cursor})


async def answer_large_page(page: Page) -> Response:
    """Encode a page item by item, because its items may be large, and let other requests run in between."""
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

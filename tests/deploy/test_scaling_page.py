# pyright: reportPrivateUsage=false
"""The page about scaling says of each collection what its indexes allow, and names figures that were measured."""

import re
from pathlib import Path

from beanie import Document
from bson import ObjectId

from app.database.connection import DOCUMENTS, expected_indexes
from app.events.log.log_rows import Row, page_update, payload_parts
from app.events.types import Frame

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
SHARDED = re.compile(
    r"^\| (?P<names>`[^|]+`) \| `\{(?P<key>\w+): (?:1|\"hashed\")\}` \| (?P<verdict>[^|]+) \|$", re.MULTILINE
)


def collection_name(document: type[Document]) -> str:
    """The name of a document's collection, which needs no database."""
    return str(getattr(document, "Settings").name)  # noqa: B009 - Beanie's inner class has no type of its own


def unique_indexes() -> dict[str, dict[str, list[str]]]:
    """The fields of each unique index by collection and name."""
    return {
        collection_name(document): {
            index.document["name"]: list(index.document["key"])
            for index in expected_indexes(document)
            if index.document.get("unique")
        }
        for document in DOCUMENTS
    }


def test_the_page_lists_every_unique_index_that_prevents_a_shard_key() -> None:
    unique = unique_indexes()
    rows = list(SHARDED.finditer(PAGE))

    assert len(rows) >= 6
    for row in rows:
        for name in re.findall(r"`([^`]+)`", row["names"]):
            against = {index for index, fields in unique[name].items() if fields[0] != row["key"]}
            named = set(re.findall(r"`([^`]+)`", row["verdict"])) if "blocked" in row["verdict"] else set[str]()
            assert against == named, name


def test_a_supporting_index_begins_with_the_shard_key() -> None:
    supporting = {name: row for row in SHARDED.finditer(PAGE) for name in re.findall(r"`([^`]+)`", row["names"])}
    for document in DOCUMENTS:
        row = supporting.get(collection_name(document))
        if row and "supports" in row["verdict"]:
            (named,) = re.findall(r"`([^`]+)`", row["verdict"])
            (index,) = [one for one in expected_indexes(document) if one.document["name"] == named]
            assert next(iter(index.document["key"])) == row["key"]


def test_upserts_into_collections_that_can_be_sharded_name_the_root() -> None:
    event = {"type": "tool-result", "seq": 1, "executionId": "exec_1_a", "rootExecutionId": "exec_1_r", "sha256": "0"}
    row = Row(ObjectId(), ObjectId(), event, Frame(event), 10, {}, None, completes=True, full_text=b"{}")

    selectors = [update._filter for update in (page_update([row]), *payload_parts(row, b"{}"))]

    assert [selector["rootExecutionId"] for selector in selectors] == ["exec_1_r", "exec_1_r"]


def test_each_table_of_the_benchmarks_that_the_page_names_exists() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "benchmarks" / "README.md").read_text(), re.MULTILINE)
    named = {
        name
        for row in re.findall(r"^\|[^|]+\|[^|]+\| ([A-Z][^|]+) \|$", PAGE, re.MULTILINE)
        for name in row.split("; ")
    }

    assert len(named) >= 5
    assert {name for name in named if not any(heading.startswith(name) for heading in headings)} == set()

"""Lists of the catalog: filters, searches, and pages that hold still while documents come and go."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from hypothesis import given, settings
from hypothesis import strategies as st

from app.database.connection import Database
from app.errors import InvalidInput
from app.kit.paging import PageRequest
from app.services.catalog.output_schemas import AgentRead, CustomToolSummary, DepartmentRead
from app.services.catalog.queries import AgentFilter, CatalogQueries

FIRST = PageRequest(limit=50, sort="agentId", cursor=None)
SOME_ID = {"$oid": "66f0a1b2c3d4e5f601234567"}


@pytest.fixture
def catalog(database: Database) -> CatalogQueries:
    """The catalog of this test's database."""
    return CatalogQueries(database)


async def ids_of(catalog: CatalogQueries, wanted: AgentFilter = AgentFilter()) -> list[str]:  # noqa: B008 - frozen
    """The ids of the agents that match."""
    page = await catalog.list_agents(wanted, FIRST)
    assert page.total == len(page.items)
    return [item.agent_id for item in page.items if isinstance(item, AgentRead)]


async def add_agents(database: Database, *rows: dict[str, Any]) -> None:
    """Store agents with the fields of the test alone."""
    await database["agents"].insert_many([{"agentId": f"agent-{place}", **row} for place, row in enumerate(rows)])


async def test_a_key_that_is_missing_or_null_counts_as_its_default(catalog: CatalogQueries, database: Database) -> None:
    await add_agents(
        database,
        {"agentId": "missing"},
        {"agentId": "null", "isActive": None, "isDepartmentHead": None},
        {"agentId": "off", "isActive": False, "isDepartmentHead": False},
        {"agentId": "on", "isActive": True, "isDepartmentHead": True},
    )

    assert await ids_of(catalog, AgentFilter(is_active=True)) == ["missing", "null", "on"]
    assert await ids_of(catalog, AgentFilter(is_active=False)) == ["off"]
    assert await ids_of(catalog, AgentFilter(is_department_head=True)) == ["on"]
    assert await ids_of(catalog, AgentFilter(is_department_head=False)) == ["missing", "null", "off"]


async def test_a_department_is_filtered_by_its_slug_and_an_unknown_one_has_no_agents(
    catalog: CatalogQueries, database: Database
) -> None:
    story = (await database["departments"].insert_one({"slug": "story"})).inserted_id
    await add_agents(database, {"agentId": "ours", "department": story}, {"agentId": "stray", "department": None})

    assert await ids_of(catalog, AgentFilter(department="story")) == ["ours"]
    assert await ids_of(catalog, AgentFilter(department="nowhere")) == []


@pytest.mark.slow
async def test_a_search_finds_its_very_text_and_is_never_a_pattern(catalog: CatalogQueries, database: Database) -> None:
    texts = [*".*+?()[]{}|^$\\#/%& \t\n", ".*", "a+b", "\\d", "\\Q", "(?i)", "{2}", "a.b", "ä", "😀", "a\0b"]
    await add_agents(database, {"agentId": "plain", "name": "aab"})
    await add_agents(database, *({"agentId": f"exact-{text}", "name": f"<{text}>"} for text in texts))

    for text in texts:
        assert await ids_of(catalog, AgentFilter(q=f"<{text}>")) == [f"exact-{text}"]


async def test_a_search_looks_at_ids_names_descriptions_and_specialisations_in_any_case(
    catalog: CatalogQueries, database: Database
) -> None:
    await add_agents(
        database,
        {"agentId": "1-dialogue"},
        {"agentId": "2", "name": "The Dialogue"},
        {"agentId": "3", "description": "writes dialogue"},
        {"agentId": "4", "specialization": "DIALOGUE"},
        {"agentId": "5", "instructionsPrompt": "dialogue"},
    )

    assert await ids_of(catalog, AgentFilter(q="dialogue")) == ["1-dialogue", "2", "3", "4"]


async def pages_of(catalog: CatalogQueries, sort: str, limit: int) -> list[list[str]]:
    """All pages of the departments, as slugs."""
    pages: list[list[str]] = []
    cursor: str | None = None
    while cursor is not None or not pages:
        page = await catalog.list_departments(PageRequest(limit, sort, cursor))
        pages.append([item.slug for item in page.items if isinstance(item, DepartmentRead)])
        cursor = page.next_cursor
    return pages


@pytest.mark.slow
async def test_pages_hold_every_document_once_also_where_the_sorted_field_is_unset_or_equal(
    catalog: CatalogQueries, database: Database
) -> None:
    when = datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)
    rows: list[dict[str, Any]] = [
        {"slug": "a", "priority": 1, "name": "x", "createdAt": when},
        {"slug": "b", "priority": 1.0, "name": "x", "createdAt": when},
        {"slug": "c", "priority": bson.Int64(1), "name": "X", "createdAt": when.replace(year=1960)},
        {"slug": "d"},
        {"slug": "e", "priority": None, "name": None, "createdAt": None},
        {"slug": "f", "priority": 10, "name": "ä\U0001f600", "createdAt": when},
        {"slug": "g", "priority": 3, "name": ""},
    ]
    await database["departments"].insert_many(rows)

    for sort in ("priority", "-priority", "name", "-name", "createdAt", "-createdAt"):
        direction = -1 if sort.startswith("-") else 1
        order = [(sort.removeprefix("-"), direction), ("_id", direction)]
        expected = [row["slug"] async for row in database["departments"].find().sort(order)]
        for limit in (1, 2, 3, 7, 8):
            pages = await pages_of(catalog, sort, limit)
            assert [slug for page in pages for slug in page] == expected, (sort, limit)
            assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


async def test_pages_stay_stable_while_documents_are_added_and_removed(
    catalog: CatalogQueries, database: Database
) -> None:
    await database["departments"].insert_many([{"slug": f"s-{number:02}"} for number in range(0, 20, 2)])
    first = await catalog.list_departments(PageRequest(4, "slug", None))
    await database["departments"].insert_many([{"slug": "s-01"}, {"slug": "s-99"}])
    await database["departments"].delete_one({"slug": "s-06"})

    second = await catalog.list_departments(PageRequest(200, "slug", first.next_cursor))

    seen = [item.slug for item in (*first.items, *second.items) if isinstance(item, DepartmentRead)]
    assert seen == ["s-00", "s-02", "s-04", "s-06", "s-08", "s-10", "s-12", "s-14", "s-16", "s-18", "s-99"]


async def test_one_foreign_document_does_not_spoil_a_list(catalog: CatalogQueries, database: Database) -> None:
    beyond = DatetimeMS(2**60)
    await database["custom-tools"].insert_many(
        [
            {"toolName": "good", "inputSchema": {"of": ObjectId(), "since": datetime(2026, 1, 1, tzinfo=UTC)}},
            {"displayName": "without a name"},
            {"toolName": "bad", "version": ["1"]},
            {"toolName": "late", "createdAt": beyond},
            {"toolName": "other", "exampleInputs": [{"example": {"n": bson.Int64(5), "f": float("nan")}}]},
        ]
    )

    page = await catalog.list_custom_tools(PageRequest(50, "toolName", None))

    assert [item.tool_name for item in page.items if isinstance(item, CustomToolSummary)] == ["good", "other"]
    for item in page.items:
        json.loads(item.model_dump_json(by_alias=True))


def forged(**content: Any) -> str:  # noqa: ANN401 - anything may be forged
    """A cursor that no list gave."""
    whole = {"s": "agentId", "v": "a", "i": SOME_ID} | content
    return base64.urlsafe_b64encode(json.dumps(whole).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "====",
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 500).decode(),
        base64.urlsafe_b64encode(b"null").decode(),
        base64.urlsafe_b64encode(b'["s", "v", "i"]').decode(),
        forged(s="-agentId"),
        forged(s="$where"),
        forged(i="66f0a1b2c3d4e5f601234567"),
        forged(i={"$oid": "zz"}),
        forged(i={"$ne": None}),
        forged(v={"$ne": None}),
        forged(v={"$regularExpression": {"pattern": ".*", "options": ""}}),
        forged(v={"$numberDecimal": "much"}),
        forged(v={"$numberDecimal": "1"}),
        forged(v={"$numberLong": "many"}),
        forged(v={"$date": {"$numberLong": "9" * 30}}),
        forged(v={"$date": "never"}),
        forged(v={"$date": []}),
        forged(v={"$code": "sleep(1)"}),
        forged(v={"$uuid": 5}),
        forged(v={"$binary": {}}),
        forged(v=2**70),
        forged(v=-(2**63)),
        forged(v="\ud800"),
        forged(v=["a"]),
        forged(v={"$minKey": 1}),
    ],
    ids=lambda cursor: cursor[-24:],
)
def test_a_cursor_that_no_list_gave_is_refused_by_name(cursor: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        PageRequest(50, "agentId", cursor).selector()

    assert [error.path for error in caught.value.errors] == ["cursor"]


EXTENDED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$oid", "$date", "$numberLong", "$numberDouble", "$binary", "$timestamp", "$ref", "x"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(content=st.fixed_dictionaries({"s": st.just("agentId"), "v": EXTENDED, "i": EXTENDED | st.just(SOME_ID)}))
def test_any_cursor_is_refused_or_becomes_a_selector_that_mongodb_accepts(content: dict[str, Any]) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()

    try:
        selector = PageRequest(50, "agentId", cursor).selector()
    except InvalidInput:
        return

    bson.encode(selector)
    assert not any(isinstance(part.get("agentId"), list) for part in selector["$or"])


@settings(max_examples=100, deadline=None)
@given(value=st.none() | st.text() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.booleans())
def test_the_cursor_of_a_row_leads_back_to_its_value(value: object) -> None:
    row = {"_id": ObjectId(), "name": value}
    page = PageRequest(50, "-name", None)

    again = PageRequest(50, "-name", page.cursor_after(row))

    assert again.selector()["$or"][0] == {"name": value, "_id": {"$lt": row["_id"]}}
    assert dumps(row, json_options=CANONICAL_JSON_OPTIONS)

"""Every list has the same form: a page with a limit, a cursor and a sort, and items with the fields of one answer."""

import re
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings

ONLY_IN_SINGLE_ANSWERS = {"params", "output", "runState", "executeFunction", "snapshot"}
Described = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Described:
    """The OpenAPI document of the application, which describes itself without being started."""
    return create_app(Settings(_env_file=None)).openapi()  # pyright: ignore[reportCallIssue] - pydantic-settings' own


def answer_of(document: Described, operation: Described) -> Described:
    """The schema of a successful answer; empty if it is not a named one."""
    content = operation["responses"]["200"].get("content", {}).get("application/json", {})
    return document["components"]["schemas"].get(content.get("schema", {}).get("$ref", "").rpartition("/")[2], {})


def lists_in(document: Described) -> dict[str, Described]:
    """The operations that return a page, by their paths."""
    reads = {path: methods["get"] for path, methods in document["paths"].items() if "get" in methods}
    return {path: one for path, one in reads.items() if "nextCursor" in answer_of(document, one).get("properties", {})}


def test_every_list_accepts_a_limit_a_cursor_and_a_sort(document: Described) -> None:
    lists = lists_in(document)

    assert len(lists) >= 11
    for path, operation in lists.items():
        taken = {one["name"]: one for one in operation["parameters"] if one["in"] == "query"}
        limit = taken["limit"]["schema"]
        assert (limit["default"], limit["minimum"], limit["maximum"]) == (50, 1, 200), path
        assert "cursor" in taken, path
        sort = taken["sort"]["schema"]
        values = sort.get("enum") or sort["anyOf"][0]["enum"]
        assert set(values) == {f"{sign}{value.removeprefix('-')}" for value in values for sign in ("", "-")}, path


def test_items_have_all_fields_of_a_single_answer_but_the_large_ones(document: Described) -> None:
    compared = 0
    for path, operation in lists_in(document).items():
        single = [
            methods["get"]
            for other, methods in document["paths"].items()
            if re.fullmatch(rf"{re.escape(path)}/{{\w+}}", other) and "get" in methods
        ]
        if not single:
            continue
        (one,) = single
        item = answer_of(document, operation)["properties"]["items"]["items"]["$ref"].rpartition("/")[2]
        of_items = set(document["components"]["schemas"][item]["properties"])
        of_one = set(answer_of(document, one)["properties"])
        assert of_items == of_one - ONLY_IN_SINGLE_ANSWERS, path
        compared += 1
    assert compared >= 7

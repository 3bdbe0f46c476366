"""The filters of a list of executions that search, count costs, and find what waits for a person."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from app.services.runs.queries.prompt_index import index_prompts
from tests.fixtures.http_api import NewKey, insert_foreign_executions, wrong_fields
from tests.fixtures.services import Service

EXECUTIONS = "/api/v1/executions"


async def found(service: Service, headers: dict[str, str] | None = None, **filters: Any) -> list[str]:  # noqa: ANN401 - any filter
    """The ids of the executions that match, in the order of the answer."""
    answer = await service.http.get(EXECUTIONS, params=filters, headers=headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    if body["nextCursor"] is None and "cursor" not in filters:
        assert body["total"] == len(body["items"])
    return [item["executionId"] for item in body["items"]]


@pytest.fixture
async def prompts(shared_service: Service, project: str) -> dict[str, str]:
    """Three runs, by a word of their prompts."""
    texts = {
        "harbor": "Describe the Harbor at night, in Straße and CAFÉ.",
        "market": "The Harbin market: fish, ropes.",
        "late": " ".join(f"filler{n}" for n in range(40)) + " zeppelin",
    }
    return {
        name: (await shared_service.run_agent("plot-specialist-001", project=project, judge=False, prompt=text))[
            "executionId"
        ]
        for name, text in texts.items()
    }


async def test_words_of_a_search_begin_words_of_the_prompt(
    shared_service: Service, project: str, prompts: dict[str, str]
) -> None:
    async def ids(q: str, **more: Any) -> set[str]:  # noqa: ANN401 - any filter
        return set(await found(shared_service, project=project, q=q, **more))

    harbor, market, late = prompts.values()
    assert await ids("harb") == {harbor, market}
    assert await ids("HARBOR") == {harbor}
    assert await ids("night describe") == {harbor}
    assert await ids("harb fish") == {market}
    assert await ids("arbor") == set()
    assert await ids("strasse cafe\u0301") == {harbor}
    assert await ids("harbor") == await ids("harbor", status="completed")
    assert await ids("harbor", status="failed") == set()
    assert await ids("filler39") == {late}
    assert await ids("zeppelin") == set()
    for nothing in ("", "  ", "?!", "harbor.*", "$ne"):
        assert await ids(nothing) == ({harbor} if nothing == "harbor.*" else set())


async def test_a_search_has_pages(shared_service: Service, project: str, prompts: dict[str, str]) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while len(seen) < 3:
        params = {
            "project": project,
            "q": "harb",
            "limit": 1,
            "sort": "createdAt",
            **({"cursor": cursor} if cursor else {}),
        }
        page = (await shared_service.http.get(EXECUTIONS, params=params)).json()
        seen += [item["executionId"] for item in page["items"]]
        assert page["total"] == 2
        cursor = page["nextCursor"]
        if cursor is None:
            break

    assert seen == [prompts["harbor"], prompts["market"]]


async def test_executions_of_an_earlier_release_are_found_once_they_are_indexed(
    shared_service: Service, project: str
) -> None:
    run = await shared_service.run_agent("plot-specialist-001", project=project, judge=False, prompt="A Kelpie rises.")
    collection = shared_service.services.database["agent-executions"]
    own = {"executionId": run["executionId"]}
    before = await collection.find_one_and_update(own, {"$unset": {"promptWords": "", "listedCostUsd": ""}})
    await insert_foreign_executions(shared_service, 1, project=ObjectId(project), prompt="A kelpie rises.")

    assert await found(shared_service, project=project, q="kelp") == []
    assert await index_prompts(shared_service.services.database) == 1
    assert await found(shared_service, project=project, q="kelp") == [run["executionId"]]
    assert before is not None
    assert before["promptWords"] == ["a", "kelpie", "rises"]
    after = await collection.find_one(own)
    assert after is not None
    assert after["promptWords"] == before["promptWords"]
    assert await index_prompts(shared_service.services.database) == 0


async def test_a_search_shows_a_key_only_its_projects(
    shared_service: Service, new_key: NewKey, project: str, prompts: dict[str, str]
) -> None:
    other = str(ObjectId())
    hidden = await shared_service.run_agent("plot-specialist-001", project=other, judge=False, prompt="Harbor too.")

    for filters in ({"q": "harbor"}, {"minCostUsd": 0}, {"awaiting": "review"}):
        seen = await found(shared_service, await new_key("viewer", project), **filters, limit=200)
        assert hidden["executionId"] not in seen
        assert set(seen) <= set(prompts.values())


async def test_a_cost_is_that_of_the_tree(shared_service: Service, project: str) -> None:
    run = await shared_service.run_department("story", project=project)
    collection = shared_service.services.database["agent-executions"]
    root = await collection.find_one({"executionId": run["executionId"]})
    assert root is not None
    assert root.get("listedCostUsd") == run["total"]["costUsd"]

    members = await collection.find({"rootExecutionId": run["executionId"]}).to_list()
    for number, member in enumerate(members, start=1):
        await collection.update_one(
            {"_id": member["_id"]},
            {"$set": {"costUsd": 0.5 * number}, "$unset": {"promptWords": "", "listedCostUsd": ""}},
        )
    assert await index_prompts(shared_service.services.database) >= len(members)
    total = (await shared_service.http.get(run["links"]["self"])).json()["total"]["costUsd"]

    assert total == sum(0.5 * number for number in range(1, len(members) + 1))
    assert await found(shared_service, project=project, minCostUsd=total) == [run["executionId"]]
    assert await found(shared_service, project=project, minCostUsd=total + 0.01) == []
    assert len(await found(shared_service, project=project, minCostUsd=0)) == len(members)
    assert await found(shared_service, project=project, isRoot=True) == [run["executionId"]]
    assert len(await found(shared_service, project=project, isRoot=False)) == len(members) - 1


async def test_runs_are_found_by_their_key_and_episode(shared_service: Service, new_key: NewKey, project: str) -> None:
    headers = await new_key("runner", project)
    keys = (await shared_service.http.get("/api/v1/api-keys?limit=200")).json()["items"]
    own = next(one["id"] for one in keys if one["projects"] == [project])
    episode = str(ObjectId())
    body = {"prompt": "Write.", "project": project, "judge": False, "episode": episode}
    path = "/api/v1/agents/plot-specialist-001/runs"
    mine = (await shared_service.http.post(path, json=body, headers={**headers, "Prefer": "wait=30"})).json()
    await shared_service.run_agent("plot-specialist-001", project=project, judge=False)

    assert await found(shared_service, apiKey=own) == [mine["executionId"]]
    assert await found(shared_service, apiKey="unknown") == []
    assert await found(shared_service, episode=episode) == [mine["executionId"]]
    assert await found(shared_service, episode=str(ObjectId())) == []


async def test_a_run_waits_for_a_review_from_its_end_to_the_decision(shared_service: Service, project: str) -> None:
    run = await shared_service.run_department("story", project=project)
    await insert_foreign_executions(shared_service, 1, project=ObjectId(project), status="completed")

    async def waiting(**more: Any) -> list[str]:  # noqa: ANN401 - any filter
        return await found(shared_service, project=project, awaiting="review", **more)

    assert await waiting() == [run["executionId"]]
    assert await waiting(reviewStatus="approved") == []
    assert await waiting(status="failed") == []
    assert await waiting(kind="department", q="a") == await waiting(kind="department", q="a", sort="createdAt")
    review = f"{run['links']['self']}/review"
    await shared_service.http.post(review, json={"status": "approved"})

    assert await waiting() == []


async def test_an_archived_run_waits_for_no_review(shared_service: Service, project: str) -> None:
    run = await shared_service.run_department("story", project=project)
    executions = shared_service.services.database["agent-executions"]
    await executions.update_one({"executionId": run["executionId"]}, {"$set": {"archivedAt": datetime.now(UTC)}})

    assert await found(shared_service, project=project) != []
    assert await found(shared_service, project=project, awaiting="review") == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"q": "x" * 201}, "q"),
        ({"minCostUsd": "-1"}, "minCostUsd"),
        ({"minCostUsd": "nan"}, "minCostUsd"),
        ({"awaiting": "rain"}, "awaiting"),
        ({"apiKey": "x" * 201}, "apiKey"),
        ({"episode": "66f0"}, "episode"),
    ],
    ids=str,
)
async def test_a_filter_of_another_form_is_422(shared_service: Service, params: dict[str, str], field: str) -> None:
    answer = await shared_service.http.get(EXECUTIONS, params=params)

    assert wrong_fields(answer) == [field]

"""Decisions that are refused: twice, late, about another input, by viewers, and by keys of other projects."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.fixtures.approvals import BASE, decide, pending, start
from tests.fixtures.model_server import Json, ModelServer
from tests.fixtures.runs import ADA, Catalog, calls_tool, finished
from tests.fixtures.services import PROJECT, Service

RUN = f"agents/{ADA}/runs"
SCHEMA: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}


@pytest.fixture
async def approval(service: Service, model_server: ModelServer, catalog: Catalog) -> Json:
    """A pending approval of a call of `echo`."""
    await catalog.edit_tool("echo", requiresApproval=True, inputSchema=SCHEMA)
    model_server.on("work", calls_tool("echo", {"n": 1}))
    execution_id = await start(service, RUN, judge=False)
    [found] = await pending(service, execution_id)
    return found


async def key(service: Service, role: str, *projects: str) -> dict[str, str]:
    """The headers of a new key."""
    body: Json = {"name": "of a person", "role": role} | ({"projects": list(projects)} if projects else {})
    return {"Authorization": f"Bearer {(await service.http.post('/api/v1/api-keys', json=body)).json()['key']}"}


async def test_the_first_of_many_decisions_counts(service: Service, approval: Json) -> None:
    answers = await asyncio.gather(
        *(decide(service, approval, decision) for decision in ("approve", "decline") for _ in range(4))
    )

    codes = sorted(answer.status_code for answer in answers)
    refused = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert (codes, refused) == ([200, *[409] * 7], {"approval-decided"})
    won = next(answer.json() for answer in answers if answer.status_code == 200)
    ended = await finished(service, approval["rootExecutionId"])
    shown = (await service.http.get(f"{BASE}/{approval['id']}")).json()
    assert (shown["status"], ended["status"]) == (won["status"], "completed")


async def test_viewers_read_and_runners_decide_within_their_projects(service: Service, approval: Json) -> None:
    path = f"{BASE}/{approval['id']}"
    body = {"decision": "approve", "inputDigest": approval["inputDigest"]}
    viewer, stranger = await key(service, "viewer"), await key(service, "runner", "0" * 24)
    runner = await key(service, "runner", PROJECT)

    async with httpx.AsyncClient(base_url=service.url) as http:
        read = await http.get(path, headers=viewer)
        refused = await http.post(f"{path}/decision", json=body, headers=viewer)
        hidden = [
            await http.get(path, headers=stranger),
            await http.post(f"{path}/decision", json=body, headers=stranger),
        ]
        listed = (await http.get(BASE, headers=stranger)).json()
        decided = await http.post(f"{path}/decision", json=body, headers=runner)

    assert (read.status_code, read.json()) == (200, approval)
    assert (refused.status_code, listed["total"]) == (403, 0)
    assert [(one.status_code, one.json()["code"]) for one in hidden] == [(404, "approval-not-found")] * 2
    assert (decided.status_code, decided.json()["decidedBy"]) == (200, {"type": "api-key", "name": "of a person"})


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"inputDigest": "0" * 64}, 409, "approval-changed"),
        ({"input": {"n": "one"}}, 422, "validation-error"),
        ({"input": {"m": 1}}, 422, "validation-error"),
        ({"input": {"n": 1, "more": {"$ref": "a", "$id": 1}}}, 422, "validation-error"),
        ({"input": [1]}, 422, "validation-error"),
        ({"decision": "decline", "input": {"n": 1}}, 422, "validation-error"),
        ({"decision": "maybe"}, 422, "validation-error"),
        ({"decidedBy": {"name": "me"}}, 422, "validation-error"),
        ({"message": "x" * 20_001}, 422, "validation-error"),
    ],
)
async def test_a_decision_that_is_not_one_changes_nothing(
    service: Service, approval: Json, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await service.http.post(
        f"{BASE}/{approval['id']}/decision",
        json={"decision": "approve", "inputDigest": approval["inputDigest"], **body},
    )

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await service.http.get(f"{BASE}/{approval['id']}")).json() == approval


async def test_an_unknown_approval_and_unknown_values_are_refused(service: Service) -> None:
    paths = {f"{BASE}/appr_0": 404, f"{BASE}?status=open": 422, f"{BASE}?sort=input": 422, f"{BASE}?status[$ne]=x": 422}

    answers = {path: (await service.http.get(path)).status_code for path in paths}
    run = await service.http.post(f"/api/v1/{RUN}", json={"prompt": "a", "project": PROJECT, "approvals": "none"})

    assert answers == paths
    assert (run.status_code, run.json()["errors"][0]["path"]) == (422, "approvals")


async def test_lists_are_filtered_and_paged(service: Service, approval: Json) -> None:
    async def ids(**query: str) -> list[str]:
        return [one["id"] for one in (await service.http.get(BASE, params=query)).json()["items"]]

    root = approval["rootExecutionId"]
    await decide(service, approval)

    assert await ids(rootExecutionId=root, status="pending") == []
    assert await ids(rootExecutionId=root, status="approved", agent=ADA, toolName="echo") == [approval["id"]]
    assert await ids(executionId=root, project=PROJECT, department="writers", sort="requestedAt") == [approval["id"]]
    assert await ids(executionId=root, agent="unknown") == []


async def test_the_catalog_stores_which_calls_need_an_approval(service: Service, catalog: Catalog) -> None:
    await catalog.edit_agent(ADA, skills=[])  # the edits below are taken back
    await catalog.edit_tool("echo", isActive=True)

    unknown = await service.http.patch(f"/api/v1/agents/{ADA}", json={"approvalTools": ["cueSheet"]})
    agent = await service.http.patch(f"/api/v1/agents/{ADA}", json={"approvalTools": ["echo", "textStatistics"]})
    tool = await service.http.patch("/api/v1/custom-tools/echo", json={"requiresApproval": True})

    assert (unknown.status_code, unknown.json()["errors"][0]["path"]) == (422, "approvalTools.0")
    assert (agent.status_code, agent.json()["approvalTools"]) == (200, ["echo", "textStatistics"])
    assert (tool.status_code, tool.json()["requiresApproval"]) == (200, True)
    stored = await service.services.database["agents"].find_one({"agentId": ADA})
    assert [row["toolName"] for row in (stored or {})["approvalTools"]] == ["echo", "textStatistics"]

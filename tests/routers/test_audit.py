"""The audit log over HTTP: every change of the API has its entry, and the log proves itself."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
import rfc8785

from app.database.collections import collection_of
from app.models.agent_execution import AgentExecution
from app.models.audit import AuditEntry, AuditMark
from tests.fixtures.audit_chains import assert_dense
from tests.fixtures.model_server import ModelServer
from tests.fixtures.services import Service, running_service, write_models_config

Json = dict[str, Any]
ADMIN = {"type": "api-key", "name": "ADMIN_API_KEY"}
WEIGHTS = dict.fromkeys(("confidence", "completeness", "relevance", "consistency", "creativity", "technical"), 1)
SECRET = "the-secret-prompt-of-the-audit-tests"
TOOL: Json = {
    "toolName": "auditedTool",
    "displayName": "Audited",
    "description": "Returns its input.",
    "inputSchema": {"type": "object"},
    "executeFunction": "(input) => input",
    "version": "1.0.0",
}
AGENT: Json = {
    "agentId": "audited-agent",
    "name": "Audited",
    "department": "audited",
    "instructionsPrompt": SECRET,
    "description": "An agent of the audit tests.",
}


@pytest.fixture(scope="module")
async def audited(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Service]:
    """A service whose audit log the tests of this module share."""
    folder = tmp_path_factory.mktemp("audited")
    config = write_models_config(folder / "models.yaml", shared_model_server.url)
    async with running_service(
        mongod_uri.replace("/?", "/test_audited?"), folder / "data", models_config=config
    ) as running:
        yield running


async def settled(service: Service) -> None:
    """Wait until every change has its entry, as long as the contract allows."""
    await service.services.engine.outbox.settle()
    marks = collection_of(service.services.database, AuditMark)
    async with asyncio.timeout(5):
        while await marks.count_documents({}):  # noqa: ASYNC110 - the service makes it so
            await asyncio.sleep(0.05)


async def entries(service: Service, **query: str) -> list[Json]:
    """All entries that match, by their numbers."""
    await settled(service)
    found: list[Json] = []
    cursor: str | None = None
    while True:
        page = await service.http.get(
            "/api/v1/audit", params={"sort": "seq", "limit": 40, **query, **({"cursor": cursor} if cursor else {})}
        )
        assert page.status_code == 200, page.text
        found += page.json()["items"]
        cursor = page.json()["nextCursor"]
        if cursor is None:
            assert page.json()["total"] == len(found)
            return found


def done(answer: httpx.Response) -> Json:
    """The body of an answer that succeeded."""
    assert answer.is_success, answer.text
    return answer.json() if answer.content else {}


async def verified(service: Service, **query: str) -> Json:
    await settled(service)
    return done(await service.http.get("/api/v1/audit/verify", params=query))


async def test_every_change_of_the_catalog_keys_and_budgets_has_its_entry(audited: Service) -> None:
    http, before = audited.http, len(await entries(audited))
    done(await http.post("/api/v1/departments", json={"slug": "audited", "name": "Audited", "description": "Tests."}))
    done(await http.patch("/api/v1/departments/audited", json={"description": SECRET}))
    done(await http.post("/api/v1/custom-tools", json=TOOL))
    done(await http.patch("/api/v1/custom-tools/auditedTool", json={"description": SECRET}))
    done(await http.post("/api/v1/agents", json=AGENT))
    done(await http.patch("/api/v1/agents/audited-agent", json={"instructionsPrompt": SECRET * 2, "name": "New"}))
    done(await http.patch("/api/v1/agents/audited-agent", json={"agentId": "renamed-agent"}))
    assert (await http.patch("/api/v1/agents/renamed-agent", json={"department": "nowhere"})).status_code == 422
    done(await http.put("/api/v1/quality/weights/audited", json=WEIGHTS))
    done(await http.delete("/api/v1/quality/weights/audited"))
    key = done(await http.post("/api/v1/api-keys", json={"name": "of the audit", "role": "admin"}))
    other = {"Authorization": f"Bearer {key['key']}"}
    done(await http.put("/api/v1/budgets/agent:x", json={"maxTokens": 9, "period": "day"}, headers=other))
    done(await http.delete("/api/v1/budgets/agent:x", headers=other))
    done(await http.delete(f"/api/v1/api-keys/{key['id']}"))
    done(await http.delete("/api/v1/agents/renamed-agent"))
    done(await http.delete("/api/v1/custom-tools/auditedTool"))
    done(await http.delete("/api/v1/departments/audited"))

    found = (await entries(audited))[before:]

    of_other = {"type": "api-key", "name": "of the audit"}
    assert [(one["action"], one["target"]["kind"], one["target"]["key"], one["actor"]) for one in found] == [
        ("department.create", "department", "audited", ADMIN),
        ("department.update", "department", "audited", ADMIN),
        ("custom-tool.create", "custom-tool", "auditedTool", ADMIN),
        ("custom-tool.update", "custom-tool", "auditedTool", ADMIN),
        ("agent.create", "agent", "audited-agent", ADMIN),
        ("agent.update", "agent", "audited-agent", ADMIN),
        ("agent.update", "agent", "audited-agent", ADMIN),
        ("weights.update", "weights", "audited", ADMIN),
        ("weights.reset", "weights", "audited", ADMIN),
        ("api-key.create", "api-key", key["id"], ADMIN),
        ("budget.set", "budget", "agent:x", of_other),
        ("budget.delete", "budget", "agent:x", of_other),
        ("api-key.revoke", "api-key", key["id"], ADMIN),
        ("agent.delete", "agent", "renamed-agent", ADMIN),
        ("custom-tool.delete", "custom-tool", "auditedTool", ADMIN),
        ("department.delete", "department", "audited", ADMIN),
    ]
    assert found[5]["detail"] == {"changed": ["instructionsPrompt", "name"]}
    assert found[6]["detail"] == {"changed": ["agentId"], "newKey": "renamed-agent"}
    assert key["key"] not in str(found)
    assert SECRET not in str(found)
    assert_dense(await entries(audited), before + len(found))
    assert (await verified(audited))["ok"] is True


async def test_the_seeds_of_a_new_installation_have_entries(audited: Service) -> None:
    seeded = [one for one in await entries(audited, action="agent.*") if one["actor"]["type"] == "seed"]

    assert len(seeded) == 28


async def test_the_end_and_each_review_record_the_events(audited: Service) -> None:
    run = await audited.run_department("story")
    root_id = run["executionId"]
    tree = done(await audited.http.get(f"/api/v1/executions/{root_id}/tree"))
    child_id = tree["children"][0]["executionId"]
    at_end = await audited.events(root_id)
    body = {"status": "approved", "notes": SECRET}
    done(await audited.http.post(f"/api/v1/executions/{child_id}/review", json=body))

    [end] = await entries(audited, target=f"execution/{root_id}")
    [review] = await entries(audited, target=f"execution/{child_id}")

    assert (end["action"], end["actor"]) == ("execution.end", {"type": "service", "name": "dynamic-agents"})
    assert end["detail"] == {
        "status": "completed",
        "rootExecutionId": root_id,
        "lastSeq": len(at_end),
        "eventsHash": events_hash(at_end),
    }
    assert (review["action"], review["actor"], review["detail"]["status"]) == ("execution.review", ADMIN, "approved")
    assert review["detail"]["eventsHash"] == events_hash(await audited.events(root_id))
    assert SECRET not in str(review)
    assert (await verified(audited))["trees"] >= 1


def events_hash(events: list[Json]) -> str:
    """The hash of events, as the contract defines it."""
    return hashlib.sha256(b"".join(rfc8785.dumps(event) + b"\n" for event in events)).hexdigest()


async def test_a_revision_a_cancel_and_a_delete_are_recorded(audited: Service) -> None:
    root_id = (await audited.run_department("story"))["executionId"]
    body = {"status": "revision-needed", "notes": "Shorter."}
    done(await audited.http.post(f"/api/v1/executions/{root_id}/review", json=body))
    async with asyncio.timeout(20):
        while (await entries(audited, action="execution.end", target=f"execution/{root_id}"))[1:] == []:  # noqa: ASYNC110 - the service makes it so
            await asyncio.sleep(0.1)
    assert (await verified(audited))["ok"] is True
    assert (await audited.http.post(f"/api/v1/executions/{root_id}/cancel")).status_code == 409
    done(await audited.http.delete(f"/api/v1/executions/{root_id}"))

    found = await entries(audited, target=f"execution/{root_id}")

    # The end is recorded by the outbox, so a review that follows at once may be recorded first.
    assert Counter(one["action"] for one in found) == {
        "execution.end": 2,
        "execution.review": 1,
        "execution.delete": 1,
    }
    assert found[-1]["action"] == "execution.delete"
    first, last = (one["detail"] for one in found if one["action"] == "execution.end")
    assert first["eventsHash"] != last["eventsHash"]
    assert last["lastSeq"] > first["lastSeq"]
    assert (await verified(audited))["ok"] is True


async def test_an_end_is_hashed_before_its_run_can_be_deleted(audited: Service) -> None:
    root_id = (await audited.run_department("story"))["executionId"]
    done(await audited.http.delete(f"/api/v1/executions/{root_id}"))

    end, delete = await entries(audited, target=f"execution/{root_id}")

    assert (end["action"], delete["action"]) == ("execution.end", "execution.delete")
    assert len(end["detail"]["eventsHash"]) == 64
    assert (await verified(audited))["ok"] is True


async def test_filters_select_entries(audited: Service) -> None:
    done(await audited.http.put("/api/v1/budgets/agent:filtered", json={"maxTokens": 9, "period": "day"}))
    [one] = await entries(audited, target="budget/agent:filtered", action="budget.*", actor="ADMIN_API_KEY")

    assert one["detail"] == {"maxTokens": 9, "maxCostUsd": None, "period": "day"}
    assert await entries(audited, target="budget/agent:filtered", to=one["at"]) == []
    assert await entries(audited, target="budget/agent:filtered", **{"from": one["at"]}) == [one]
    assert await entries(audited, actor="Unknown") == []
    latest = done(await audited.http.get("/api/v1/audit", params={"limit": 1}))
    assert latest["items"][0]["seq"] == latest["total"]
    for query in ({"target": "budget"}, {"action": "b.$"}, {"from": "soon"}, {"sort": "at"}, {"cursor": "x"}):
        assert (await audited.http.get("/api/v1/audit", params=query)).status_code == 422, query
    assert (await audited.http.get("/api/v1/audit/verify", params={"head": "7"})).status_code == 422


async def test_tampering_is_found_and_named_over_http(audited: Service) -> None:
    root_id = (await audited.run_agent("plot-specialist-001"))["executionId"]
    good = await verified(audited)
    database = audited.services.database
    executions, log = collection_of(database, AgentExecution), collection_of(database, AuditEntry)
    assert good["firstBad"] is None
    assert good["head"]["seq"] == good["checked"]

    changed = {"$set": {"events.0.event.agentId": "eve"}}
    await executions.update_one({"executionId": root_id}, changed)
    bad = (await verified(audited))["firstBad"]
    assert bad.keys() == {"executionId", "reason"}
    assert bad["executionId"] == root_id
    await executions.update_one({"executionId": root_id}, {"$set": {"events.0.event.agentId": "plot-specialist-001"}})

    last = await log.find_one_and_delete({"_id": good["head"]["seq"]})
    assert last is not None
    head = f"{good['head']['seq']}:{good['head']['hash']}"
    bad = (await verified(audited, head=head))["firstBad"]
    assert (bad["seq"], "reason" in bad) == (good["head"]["seq"], True)
    await log.insert_one(last)
    assert (await verified(audited, head=head))["ok"] is True

"""Tool calls that wait for a person: what runs, with which input, and which result the model receives."""

import hashlib

import pytest

from tests.fixtures.approvals import decide, pending, start
from tests.fixtures.exposition import counted
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    DEPARTMENT,
    HEAD,
    Catalog,
    all_events,
    calls_tool,
    finished,
    first_then,
    gapless,
    of_type,
    stored,
    stored_once,
    stored_tree,
    types_of,
)
from tests.fixtures.services import PROJECT, Service

RUN = f"agents/{ADA}/runs"


async def execution(service: Service, execution_id: str) -> Json:
    """An execution as the API shows it."""
    return (await service.http.get(f"/api/v1/executions/{execution_id}")).json()


async def test_an_approved_call_is_made_once_with_exactly_its_input_and_the_model_is_not_asked_again(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True)
    model_server.on("work", calls_tool("echo", {"b": 1.0, "a": "ä"}))
    execution_id = await start(service, RUN, judge=False)
    [approval] = await pending(service, execution_id)

    waiting = await stored_once(service, execution_id, lambda document: document["lease"] is None)
    shown = await execution(service, execution_id)
    decided = await decide(service, approval, message="Do it.")
    ended = await finished(service, execution_id)

    assert {
        name: approval[name] for name in ("status", "agent", "department", "project", "toolName", "toolVersion")
    } == {
        "status": "pending",
        "agent": ADA,
        "department": DEPARTMENT,
        "project": PROJECT,
        "toolName": "echo",
        "toolVersion": "1.0.0",
    }
    assert approval["inputDigest"] == hashlib.sha256('{"a":"ä","b":1}'.encode()).hexdigest()
    assert (approval["input"], approval["toolCallId"]) == ({"b": 1.0, "a": "ä"}, "call_1_echo")
    assert (waiting["status"], shown["status"], shown["waitingFor"]) == (
        "running",
        "running",
        {"approvals": [approval["id"]]},
    )
    assert decided.status_code == 200
    assert decided.json()["status"] == "approved"
    assert decided.json()["decidedBy"]["type"] == "api-key"
    events = await all_events(service, execution_id)
    assert types_of(events) == [
        "agent-start",
        "tool-call",
        "approval-requested",
        "approval-decided",
        "tool-result",
        "agent-response",
        "agent-complete",
    ]
    assert gapless(events)
    requested, decision, result = events[2:5]
    assert (requested["approvalId"], requested["input"]) == (approval["id"], approval["input"])
    assert (decision["status"], decision["input"], decision["message"]) == ("approved", approval["input"], "Do it.")
    assert "editedInput" not in decision
    assert result["output"] == {"b": 1.0, "a": "ä"}
    assert (ended["status"], "waitingFor" in ended, "waitingSince" in ended) == ("completed", False, False)
    assert len(model_server.calls_for("work")) == 2
    assert (await execution(service, execution_id))["waitingFor"] is None


@pytest.mark.parametrize("given", [{"approvalTools": [{"toolName": "echo", "id": "0" * 24}]}, {}])
async def test_agents_and_runs_can_require_approvals_too(
    service: Service, model_server: ModelServer, catalog: Catalog, given: Json
) -> None:
    if given:
        await catalog.edit_agent(ADA, **given)
    model_server.on("work", calls_tool("echo", {}))

    execution_id = await start(service, RUN, judge=False, **({} if given else {"approvals": "all"}))
    [approval] = await pending(service, execution_id)
    await decide(service, approval)

    assert (await finished(service, execution_id))["output"]["text"] == "Done."


async def test_a_declined_call_is_not_made_and_the_model_receives_the_message(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True)
    model_server.on("work", calls_tool("echo", {"n": 1}))
    declined = counted("tool_calls_total", source="custom", outcome="declined")
    execution_id = await start(service, RUN, judge=False)
    [approval] = await pending(service, execution_id)

    answer = await decide(service, approval, "decline", message="Not this one.")
    ended = await finished(service, execution_id)

    received = model_server.calls_for("work")[-1].tool_results
    assert answer.json()["status"] == "declined"
    assert received == [{"error": {"code": "declined", "message": "Not this one."}}]
    assert counted("tool_calls_total", source="custom", outcome="declined") == declined + 1
    assert (ended["status"], ended["output"]["text"]) == ("completed", "Done.")
    [result] = of_type(await all_events(service, execution_id), "tool-result")
    assert (result["output"], result["durationMs"]) == (received[0], 0)


async def test_a_call_uses_the_edited_input_and_informs_the_model(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    schema = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}
    await catalog.edit_tool("echo", requiresApproval=True, inputSchema=schema)
    model_server.on("work", calls_tool("echo", {"to": "everyone"}))
    execution_id = await start(service, RUN, judge=False)
    [approval] = await pending(service, execution_id)

    refused = await decide(service, approval, input={"to": 7})
    answer = await decide(service, approval, input={"to": "Bob"})
    await finished(service, execution_id)

    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "input.to")
    assert (answer.json()["input"], answer.json()["editedInput"]) == ({"to": "everyone"}, {"to": "Bob"})
    events = await all_events(service, execution_id)
    [decision] = of_type(events, "approval-decided")
    [result] = of_type(events, "tool-result")
    assert (decision["input"], decision["editedInput"]) == ({"to": "everyone"}, {"to": "Bob"})
    assert (result["output"], result["editedInput"]) == ({"to": "Bob"}, {"to": "Bob"})
    [received] = model_server.calls_for("work")[-1].tool_results
    assert (received["input"], received["output"]) == ({"to": "Bob"}, {"to": "Bob"})


async def test_an_input_that_does_not_match_the_schema_is_refused_to_the_model_and_no_one_is_asked(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True, inputSchema={"type": "object", "required": ["to"]})
    model_server.on("work", calls_tool("echo", {"n": 1}))

    done = await service.run_agent(ADA, judge=False)

    [received] = model_server.calls_for("work")[-1].tool_results
    assert received["error"]["code"] == "tool-input-invalid"
    assert "approval-requested" not in types_of(await all_events(service, done["executionId"]))


async def test_calls_of_one_turn_wait_independently_and_the_others_run_meanwhile(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True)
    turn = completion(None, ("echo", {"n": 1}), ("tellContext", {}), ("echo", {"n": 2}), ("echo", {"n": 3}))
    model_server.on("work", first_then(turn, "Done."))
    execution_id = await start(service, RUN, judge=False)
    approvals = await pending(service, execution_id, 3)
    by_input = {approval["input"]["n"]: approval for approval in approvals}

    await stored_once(service, execution_id, lambda document: document["lease"] is None)
    before = of_type(await all_events(service, execution_id), "tool-result")
    await decide(service, by_input[2])
    await stored_once(service, execution_id, lambda document: len(document["waitingFor"]) == 2)
    await stored_once(service, execution_id, lambda document: "tool-result" in kinds(document["events"][-2:]))
    await decide(service, by_input[3], "decline", message="No.")
    await decide(service, by_input[1])
    ended = await finished(service, execution_id)

    assert [result["toolName"] for result in before] == ["tellContext"]
    assert ended["status"] == "completed"
    received = model_server.calls_for("work")[-1].tool_results
    assert [received[0], received[2], received[3]["error"]["code"]] == [{"n": 1}, {"n": 2}, "declined"]
    events = await all_events(service, execution_id)
    assert gapless(events)
    assert len(model_server.calls_for("work")) == 2
    assert "agent-retry" not in types_of(events)


def kinds(rows: list[Json]) -> list[str]:
    """The types of stored events."""
    return [row["event"]["type"] for row in rows]


async def test_a_department_waits_as_a_tree_and_its_head_does_not_plan_again(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True)

    def work(call: Call) -> Reply:
        return (
            "Done." if call.tool_results else completion(None, ("echo", {"by": "ada" if call.is_from(ADA) else "bob"}))
        )

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [])))
    model_server.on("work", work)
    execution_id = await start(service, f"departments/{DEPARTMENT}/runs")
    approvals = {approval["agent"]: approval for approval in await pending(service, execution_id, 2)}
    await stored_once(service, execution_id, lambda document: document["lease"] is None)
    waiting = await stored_tree(service, execution_id)
    tree = (await service.http.get(f"/api/v1/executions/{execution_id}/tree")).json()

    await decide(service, approvals[ADA])
    await decide(service, approvals[BOB], "decline")
    ended = await finished(service, execution_id)

    assert {agent: raw["status"] for agent, raw in waiting.items()} == dict.fromkeys((HEAD, ADA, BOB), "running")
    assert set(waiting[HEAD]["waitingFor"]) == {approval["id"] for approval in approvals.values()}
    assert waiting[ADA]["waitingFor"] == [approvals[ADA]["id"]]
    assert {len(node["waitingFor"]["approvals"]) for node in [tree, *tree["children"]]} == {1, 2}
    assert ended["status"] == "completed"
    assert [len(model_server.calls_for(purpose)) for purpose in ("plan", "work", "report")] == [1, 4, 1]
    assert gapless(await all_events(service, execution_id))
    assert all("waitingFor" not in raw for raw in (await stored_tree(service, execution_id)).values())


async def test_an_approval_that_no_one_decides_expires_and_the_run_continues(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True)
    model_server.on("work", calls_tool("echo", {}))
    execution_id = await start(service, RUN, judge=False)
    [approval] = await pending(service, execution_id)
    document = await stored(service, execution_id)
    approvals = service.services.database["agent-approvals"]

    await approvals.update_one({"approvalId": approval["id"]}, {"$set": {"expiresAt": document["createdAt"]}})
    late = await decide(service, approval)
    ended = await finished(service, execution_id)
    again = await decide(service, approval)

    assert (late.status_code, late.json()["code"]) == (409, "approval-expired")
    assert (again.status_code, again.json()["code"]) == (409, "approval-expired")
    assert ended["status"] == "completed"
    assert model_server.calls_for("work")[-1].tool_results[0]["error"]["code"] == "approval-expired"
    [decision] = of_type(await all_events(service, execution_id), "approval-decided")
    assert (decision["status"], "decidedBy" in decision) == ("expired", False)


async def test_cancelling_a_waiting_tree_cancels_its_approvals(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True)
    model_server.on("work", calls_tool("echo", {}))
    execution_id = await start(service, RUN, judge=False)
    [approval] = await pending(service, execution_id)
    await stored_once(service, execution_id, lambda document: document["lease"] is None)

    cancelled = await service.http.post(f"/api/v1/executions/{execution_id}/cancel")
    late = await decide(service, approval)

    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert (late.status_code, late.json()["code"]) == (409, "approval-cancelled")
    assert cancelled.json()["waitingFor"] is None
    shown = (await service.http.get(f"/api/v1/approvals/{approval['id']}")).json()
    assert (shown["status"], shown["decidedBy"]) == ("cancelled", None)
    assert types_of(await all_events(service, execution_id))[-1] == "agent-cancelled"


async def test_a_retry_from_the_checkpoint_asks_again(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True, executeFunction="(input, { fetch }) => input")
    model_server.on("work", calls_tool("echo", {"n": 1}))
    execution_id = await start(service, RUN, judge=False)
    await pending(service, execution_id)
    await service.http.post(f"/api/v1/executions/{execution_id}/cancel")

    retried = await service.http.post(f"/api/v1/executions/{execution_id}/retry")
    again = retried.json()["executionId"]
    [approval] = await pending(service, again)
    await decide(service, approval)
    ended = await finished(service, again)

    assert (ended["status"], ended["output"]["text"]) == ("completed", "Done.")
    results = of_type(await all_events(service, again), "tool-result")
    assert [result["output"] for result in results] == [{"n": 1}]
    assert len(model_server.calls_for("work")) == 2


async def test_a_tool_that_changed_since_the_request_needs_a_new_approval(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", requiresApproval=True)
    model_server.on("work", calls_tool("echo", {"n": 1}))
    execution_id = await start(service, RUN, judge=False)
    [first] = await pending(service, execution_id)
    await stored_once(service, execution_id, lambda document: document["lease"] is None)

    await catalog.edit_tool("echo", executeFunction="() => 'something else'", version="2.0.0")
    await decide(service, first)
    [second] = await pending(service, execution_id)
    before = of_type(await all_events(service, execution_id), "tool-result")
    await decide(service, second)
    await finished(service, execution_id)

    assert (first["id"] != second["id"], second["toolVersion"], before) == (True, "2.0.0", [])
    events = await all_events(service, execution_id)
    assert types_of(events)[2:7] == [*["approval-requested", "approval-decided"] * 2, "tool-result"]
    assert of_type(events, "tool-result")[0]["output"] == "something else"

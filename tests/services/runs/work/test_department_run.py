"""Department runs: plan, specialists, judge, review, report; over the public API."""

import asyncio
from collections.abc import Callable
from itertools import chain

from bson import ObjectId

from app.services.prompts.fences import fenced
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    CYD,
    DEPARTMENT,
    HEAD,
    ROOMY_MODEL,
    SPECIALISTS,
    Catalog,
    all_events,
    first_then,
    of_type,
    stored_tree,
    types_of,
)
from tests.fixtures.services import PROJECT, Service

JUST_ADA = plan_of((ADA, "Write it.", []))
IN_A_ROW = plan_of((ADA, "Begin.", []), (BOB, "Continue.", [ADA]), (CYD, "End.", [ADA, BOB]))
JUDGE = {"name", "threshold", "passed", "score", "issues"}


def by_agent(replies: dict[str, Reply], otherwise: Reply = "The work is done.") -> Callable[[Call], Reply]:
    """A script that answers each agent in its own way."""
    return lambda call: next((reply for agent, reply in replies.items() if call.is_from(agent)), otherwise)


def events_of(events: list[Json], execution_id: str) -> list[Json]:
    """The events of one execution of a tree."""
    return [event for event in events if event["executionId"] == execution_id]


def notes_in(call: Call) -> str:
    """The last message of the call."""
    return str(call.messages[-1]["content"])


async def test_a_department_run_is_a_tree_with_one_execution_a_specialist(service: Service) -> None:
    done = await service.run_department(DEPARTMENT, conversationId="c-1", episode="66f0a1b2c3d4e5f601234599")

    tree = (await service.http.get(f"/api/v1/executions/{done['executionId']}/tree")).json()
    assert (tree["agent"], tree["kind"], tree["status"]) == (HEAD, "department", "completed")
    assert [(child["agent"], child["kind"], child["status"]) for child in tree["children"]] == [
        (agent, "agent", "completed") for agent in SPECIALISTS
    ]
    assert [child["qualityScore"] for child in tree["children"]] == [90.0] * 3
    assert [child["reviewStatus"] for child in tree["children"]] == ["approved"] * 3


async def test_every_document_of_the_tree_is_one_that_a_cms_can_save_again(service: Service) -> None:
    done = await service.run_department(DEPARTMENT, conversationId="c-1", episode="66f0a1b2c3d4e5f601234599")

    documents = await stored_tree(service, done["executionId"])
    root = documents[HEAD]
    assert set(documents) == {HEAD, *SPECIALISTS}
    assert "parentExecutionId" not in root
    for agent, document in documents.items():
        assert isinstance(document["_id"], ObjectId)
        assert document["project"] == ObjectId(PROJECT)
        assert document["episode"] == ObjectId("66f0a1b2c3d4e5f601234599")
        assert document["department"] == root["department"]
        assert (document["conversationId"], document["status"]) == ("c-1", "completed")
        assert document["__v"] == 0
        if agent != HEAD:
            assert document["parentExecutionId"] == done["executionId"]
            assert document["reviewedBy"] == root["agent"]
            assert (document["reviewStatus"], document["reviewNotes"]) == ("approved", "Good.")


async def test_the_numbers_of_a_tree_s_events_run_without_a_gap_over_its_documents(service: Service) -> None:
    done = await service.run_department(DEPARTMENT)

    documents = await stored_tree(service, done["executionId"])
    numbers = [[row["event"]["seq"] for row in document["events"]] for document in documents.values()]
    assert sorted(chain.from_iterable(numbers)) == list(range(1, done["lastSeq"] + 1))
    assert all(rows == sorted(rows) for rows in numbers)
    assert all(document["lastSeq"] == rows[-1] for document, rows in zip(documents.values(), numbers, strict=True))


async def test_the_root_s_events_are_those_of_the_whole_tree_and_a_child_s_its_own(service: Service) -> None:
    done = await service.run_department(DEPARTMENT)

    tree = await all_events(service, done["executionId"])
    root = events_of(tree, done["executionId"])
    assert types_of(root) == [
        "agent-start",
        "department-start",
        "agent-thinking",
        "agent-response",
        "quality-check",
        "department-complete",
        "agent-complete",
    ]
    for line in done["output"]["report"]["specialists"]:
        child = await all_events(service, line["executionId"])
        assert child == events_of(tree, line["executionId"])
        assert types_of(child) == [
            "agent-start",
            "agent-response",
            "quality-check",
            "review-status",
            "agent-complete",
        ]
        assert {event["rootExecutionId"] for event in child} == {done["executionId"]}


async def test_department_events_carry_the_slug_the_plan_and_the_report(service: Service) -> None:
    done = await service.run_department(DEPARTMENT)

    events = await all_events(service, done["executionId"])
    start, complete = of_type(events, "department-start")[0], of_type(events, "department-complete")[0]
    thinking = of_type(events, "agent-thinking")[0]
    assert start["departmentSlug"] == complete["departmentSlug"] == DEPARTMENT
    assert complete["report"] == done["output"]["report"]
    assert thinking["message"] == thinking["plan"]["rationale"] == "Because."
    assert [one["agentId"] for one in thinking["plan"]["assignments"]] == [*SPECIALISTS]


async def test_the_report_has_exactly_the_structure_of_the_contract(
    service: Service, model_server: ModelServer
) -> None:
    text = "## Summary\nAll went well.\n\n## Next steps\nNone."
    model_server.on("report", text)

    done = await service.run_department(DEPARTMENT)

    children = {agent: raw["executionId"] for agent, raw in (await stored_tree(service, done["executionId"])).items()}
    assert set(done["output"]) == {"text", "report"}
    assert done["output"]["text"] == text
    report = done["output"]["report"]
    assert set(report) == {"department", "summary", "text", "specialists", "gates"}
    assert (report["department"], report["summary"], report["text"]) == (DEPARTMENT, "All went well.", text)
    assert report["specialists"] == [
        {
            "agentId": agent,
            "executionId": children[agent],
            "status": "completed",
            "qualityScore": 90.0,
            "reviewStatus": "approved",
            "meetsThreshold": True,
        }
        for agent in SPECIALISTS
    ]
    assert all(set(gate) >= JUDGE for gate in report["gates"])
    assert [(gate["name"], gate["threshold"], gate["passed"], gate["score"]) for gate in report["gates"]] == [
        *[("specialist", 0.5, True, 0.9)] * 3,
        ("department", 0.6, True, 0.9),
    ]


async def test_each_model_call_carries_its_purpose_and_execution(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", JUST_ADA)

    done = await service.run_department(DEPARTMENT)

    root, child = done["executionId"], done["output"]["report"]["specialists"][0]["executionId"]
    assert [(call.purpose, call.execution_id) for call in model_server.calls] == [
        ("plan", root),
        ("work", child),
        ("judge", child),
        ("review", child),
        ("report", root),
        ("judge", root),
    ]


async def test_a_specialist_s_tokens_are_its_own_and_count_its_judge_and_reviews(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", JUST_ADA)

    done = await service.run_department(DEPARTMENT)

    documents = await stored_tree(service, done["executionId"])
    assert documents[ADA]["tokenUsage"]["total"] == 3 * 15
    assert done["tokenUsage"]["total"] == 3 * 15


async def test_outputs_that_are_ready_together_are_judged_in_one_call_whose_tokens_they_share(
    service: Service, model_server: ModelServer
) -> None:
    barrier = asyncio.Barrier(3)

    async def work(_: Call) -> Reply:
        async with asyncio.timeout(10):
            await barrier.wait()
        return "Together."

    model_server.on("work", work)

    done = await service.run_department(DEPARTMENT, model=ROOMY_MODEL)

    documents = await stored_tree(service, done["executionId"])
    checks = of_type(await all_events(service, done["executionId"]), "quality-check")
    assert len(checks) == 4
    assert {documents[agent]["qualityScore"] for agent in SPECIALISTS} == {90.0}
    assert sum(document["tokenUsage"]["total"] for document in documents.values()) == 15 * len(model_server.calls)
    assert len(model_server.calls_for("judge")) < 4
    assert max(check.get("judgedTogether", 0) for check in checks) >= 2


async def test_a_specialist_receives_its_assignment_and_the_request_and_not_the_parameters_as_orders(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", plan_of((ADA, "Write the ending.", [])))

    await service.run_department(DEPARTMENT, prompt="A film about salt.", params={"tone": "dry"})

    told = model_server.calls_for("work")[0].messages
    request = "A film about salt.\n\n" + fenced("PARAMETERS", '{"tone": "dry"}')
    assert told[1]["content"].endswith("Your assignment, which serves this request:\nWrite the ending.")
    assert fenced("REQUEST", request) in told[1]["content"]


async def test_a_specialist_starts_after_those_it_depends_on_have_ended_and_reads_their_work(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", IN_A_ROW)
    model_server.on("work", by_agent({ADA: "Ada's opening.", BOB: "Bob's middle.", CYD: "Cyd's end."}))

    done = await service.run_department(DEPARTMENT)

    events = await all_events(service, done["executionId"])
    places = {(event["agentId"], event["type"]): event["seq"] for event in events}
    assert places[ADA, "agent-complete"] < places[BOB, "agent-start"]
    assert places[BOB, "agent-complete"] < places[CYD, "agent-start"]
    ada, bob, cyd = model_server.calls_for("work")
    assert "Bob's" not in ada.text
    assert fenced(f"OUTPUT OF {ADA}", "Ada's opening.") in bob.text
    assert fenced(f"OUTPUT OF {ADA}", "Ada's opening.") in cyd.text
    assert fenced(f"OUTPUT OF {BOB}", "Bob's middle.") in cyd.text


async def test_independent_specialists_work_at_the_same_time(service: Service, model_server: ModelServer) -> None:
    barrier = asyncio.Barrier(3)

    async def work(_: Call) -> Reply:
        async with asyncio.timeout(10):
            await barrier.wait()
        return "Together."

    model_server.on("work", work)

    done = await service.run_department(DEPARTMENT)

    assert [line["status"] for line in done["output"]["report"]["specialists"]] == ["completed"] * 3


async def test_only_those_whom_the_plan_names_work(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", plan_of((CYD, "Alone.", [ADA])))

    done = await service.run_department(DEPARTMENT)

    assert [line["agentId"] for line in done["output"]["report"]["specialists"]] == [CYD]
    assert set(await stored_tree(service, done["executionId"])) == {HEAD, CYD}


async def test_a_department_without_specialists_is_the_head_alone(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_specialists(isActive=False)

    done = await service.run_department(DEPARTMENT)

    assert [call.purpose for call in model_server.calls] == ["report", "judge"]
    assert done["output"]["report"]["specialists"] == []
    assert set(await stored_tree(service, done["executionId"])) == {HEAD}


async def test_specialists_cannot_use_their_head_s_tools(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_specialists(toolNames=[])
    model_server.on("plan", JUST_ADA)
    model_server.on("work", first_then(completion(None, ("echo", {})), "Done."))

    await service.run_department(DEPARTMENT)

    first, second = model_server.calls_for("work")
    assert first.tools == []
    assert second.tool_results[0]["error"]["code"] == "tool-not-granted"


async def test_a_head_may_call_its_tools_for_the_report(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", JUST_ADA)
    model_server.on("report", first_then(completion(None, ("textStatistics", {"text": "One."})), "## Summary\nShort."))

    done = await service.run_department(DEPARTMENT)

    assert done["output"]["report"]["summary"] == "Short."
    assert types_of(events_of(await all_events(service, done["executionId"]), done["executionId"]))[3:5] == [
        "tool-call",
        "tool-result",
    ]


async def test_a_chosen_model_is_used_by_the_whole_tree(service: Service, model_server: ModelServer) -> None:
    await service.run_department(DEPARTMENT, complexity="simple")

    judges = {call.model for call in model_server.calls_for("judge")}
    others = {call.model for call in model_server.calls if call.purpose != "judge"}
    assert (others, judges) == ({"scripted-claude-3-haiku"}, {"scripted-claude-sonnet-4.5"})


async def test_the_head_s_history_holds_the_plan_and_the_report(service: Service, model_server: ModelServer) -> None:
    done = await service.run_department(DEPARTMENT, prompt="A film about salt.")

    messages = done["runState"]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[1]["content"] == "A film about salt."
    assert [one["agentId"] for one in messages[2]["plan"]["assignments"]] == [*SPECIALISTS]
    assert messages[4]["content"] == done["output"]["text"]

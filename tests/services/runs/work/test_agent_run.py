"""Runs of one agent, over the public API and against a scripted model server."""

import json

import pytest
from pydantic import JsonValue

from app.services.prompts.fences import fenced
from app.services.prompts.judge import JUDGE_VERSION
from app.services.prompts.versions import PROMPTS_VERSION
from tests.fixtures.model_server import (
    GOOD_SCORES,
    Call,
    Json,
    ModelServer,
    Reply,
    completion,
    fault,
    judgment,
)
from tests.fixtures.runs import ADA, PRICED_MODEL, Catalog, calls_tool, first_then, stored, types_of
from tests.fixtures.services import PROJECT, Service

NO_TOKENS = {"input": 0, "output": 0, "total": 0, "cacheRead": 0, "cacheWrite": 0}
ONE_CALL = {"input": 10, "output": 5, "total": 15, "cacheRead": 0, "cacheWrite": 0}
TWO_CALLS = {"input": 20, "output": 10, "total": 30, "cacheRead": 0, "cacheWrite": 0}


async def test_an_answer_without_tools_is_exactly_these_four_events(service: Service) -> None:
    done = await service.run_agent(ADA, prompt="Write a line.")

    events = await service.events(done["executionId"])
    common = {"executionId": done["executionId"], "rootExecutionId": done["executionId"], "agentId": ADA}
    spent = {"model": "anthropic/claude-sonnet-4.5", "usage": ONE_CALL, "costUsd": None}
    judging = {"model": "anthropic/claude-3-haiku", "usage": ONE_CALL, "costUsd": 2e-5}
    gate = {"name": "specialist", "threshold": 0.5, "passed": True, "score": 0.9, "issues": []}
    assert [
        {key: event[key] for key in event if key not in ("timestamp", "calls", "promptHash")} for event in events
    ] == [
        {
            "type": "agent-start",
            "seq": 1,
            **common,
            "name": "Ada",
            "department": "writers",
            "model": "anthropic/claude-sonnet-4.5",
            "toolNames": ["textStatistics", "echo", "fail", "hang", "tellContext"],
            "missingTools": [],
            "prompt": "Write a line.",
            "promptsVersion": PROMPTS_VERSION,
            "contextHash": None,
        },
        {
            "type": "agent-response",
            "seq": 2,
            **common,
            "content": "The work is done.",
            "finishReason": "stop",
            "step": 1,
            **spent,
        },
        {
            "type": "quality-check",
            "seq": 3,
            **common,
            "score": 0.9,
            "dimensions": GOOD_SCORES,
            "gate": gate,
            "reasoning": "As scripted.",
            "judgeVersion": JUDGE_VERSION,
            **judging,
        },
        {
            "type": "agent-complete",
            "seq": 4,
            **common,
            "output": {"text": "The work is done.", "data": None},
            "tokenUsage": TWO_CALLS,
            "costUsd": None,
            "stopReason": "completed",
        },
    ]


async def test_the_record_of_a_finished_run_is_complete(service: Service) -> None:
    done = await service.run_agent(ADA, prompt="Write a line.")

    wanted = {
        "kind": "agent",
        "status": "completed",
        "agent": ADA,
        "department": "writers",
        "project": PROJECT,
        "stopReason": "completed",
        "qualityScore": 90.0,
        "reviewStatus": "pending",
        "retryCount": 0,
        "error": None,
        "output": {"text": "The work is done.", "data": None},
        "tokenUsage": TWO_CALLS,
        "lastSeq": 4,
    }
    assert {name: done[name] for name in wanted} == wanted
    assert done["startedAt"] <= done["completedAt"]
    assert done["executionTime"] >= 0


async def test_the_document_is_one_that_a_cms_can_save_again(service: Service) -> None:
    done = await service.run_agent(ADA)

    document = await stored(service, done["executionId"])
    assert [set(row) for row in document["events"]] == [{"event", "id"}] * 4
    assert all(len(row["id"]) == 24 and int(row["id"], 16) for row in document["events"])
    assert document["lease"] is None
    assert isinstance(document["output"], dict)
    assert isinstance(document["runState"], dict)


async def test_the_message_history_is_complete_once_the_run_has_ended(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", first_then(completion("Let me see.", ("echo", {"n": 1})), "Done."))

    done = await service.run_agent(ADA, prompt="Count.")

    system, *others = done["runState"]["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("You are ada-001.")
    call = {"id": "call_1_echo", "type": "function", "function": {"name": "echo", "arguments": '{"n": 1}'}}
    assert others == [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1_echo", "name": "echo", "content": '{"n":1}'},
        {"role": "assistant", "content": "Done."},
    ]


async def test_text_beside_tool_calls_is_an_agent_thinking_event(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(completion("Let me see.", ("echo", {})), "Done."))

    done = await service.run_agent(ADA)

    events = await service.events(done["executionId"])
    assert types_of(events) == [
        "agent-start",
        "agent-thinking",
        "tool-call",
        "tool-result",
        "agent-response",
        "quality-check",
        "agent-complete",
    ]
    assert events[1]["message"] == "Let me see."
    assert "plan" not in events[1]


async def test_a_turn_s_tokens_are_counted_once_however_many_events_it_makes(
    service: Service, model_server: ModelServer
) -> None:
    turn = completion("Let me see.", ("echo", {}), ("echo", {"again": True}))
    model_server.on("work", first_then(turn, "Done."))

    done = await service.run_agent(ADA)

    assert done["tokenUsage"]["total"] == 15 * len(model_server.calls) == 45


async def test_an_unwanted_judge_is_not_asked(service: Service, model_server: ModelServer) -> None:
    done = await service.run_agent(ADA, judge=False)

    assert types_of(await service.events(done["executionId"])) == ["agent-start", "agent-response", "agent-complete"]
    assert done["qualityScore"] is None
    assert model_server.calls_for("judge") == []


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"title": "Salt", "scenes": [1, 2.5, null]}', {"title": "Salt", "scenes": [1, 2.5, None]}),
        ("[1, 2]", [1, 2]),
        ("42", 42),
        ('```json\n{"a": 1}\n```', None),
        ("Not JSON.", None),
        ('{"a": NaN}', None),
        ("[" * 5000, None),
    ],
)
async def test_the_output_s_data_is_the_text_parsed_when_it_is_json(
    service: Service, model_server: ModelServer, text: str, data: JsonValue
) -> None:
    model_server.on("work", text)

    done = await service.run_agent(ADA)

    assert done["output"] == {"text": text, "data": data}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"n": 123456789012345678901234567890}', {"n": 1.2345678901234568e29}),
        ('{"bell\\u0000": "\\ud800"}', {"bell": "?"}),
        ('{"$ref": "#/scene", "$id": 1}', {"$ref": "#/scene", "_$id": 1}),
        ('{"$set": {"a.b": 1}, "": 2}', {"$set": {"a.b": 1}, "": 2}),
    ],
)
async def test_json_that_mongodb_cannot_hold_as_it_is_still_ends_the_run_well(
    service: Service, model_server: ModelServer, text: str, data: JsonValue
) -> None:
    model_server.on("work", text)

    done = await service.run_agent(ADA)

    assert (done["status"], done["output"]["data"]) == ("completed", data)
    assert (await service.events(done["executionId"]))[-1]["output"]["data"] == data


async def test_tokens_and_cost_sum_all_calls_the_judge_s_too(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", calls_tool("echo", {}))

    done = await service.run_agent(ADA, model=PRICED_MODEL)

    assert done["tokenUsage"] == {"input": 30, "output": 15, "total": 45, "cacheRead": 0, "cacheWrite": 0}
    assert done["costUsd"] == pytest.approx(30e-6 + 2 * 15e-6, abs=1e-12)
    assert (await service.events(done["executionId"]))[-1]["costUsd"] == done["costUsd"]


async def test_a_cost_is_null_when_the_price_is_unknown(service: Service, model_server: ModelServer) -> None:
    done = await service.run_agent(ADA)
    model_server.on("work", first_then(completion("Hm.", ("echo", {})), fault(400)))
    failed = await service.run_agent(ADA)

    for run in (done, failed):
        told = [event for event in await service.events(run["executionId"]) if {"usage", "tokenUsage"} & set(event)]
        assert run["costUsd"] is None
        own = [event for event in told if event["type"] != "quality-check"]  # the judge has another model
        assert [event["costUsd"] for event in own] == [None, None]


async def test_a_missing_or_absurd_usage_counts_as_none(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", {**completion("Done."), "usage": {"prompt_tokens": -5, "completion_tokens": 10**12}})

    done = await service.run_agent(ADA, judge=False)

    assert (done["status"], done["tokenUsage"]) == ("completed", NO_TOKENS)


async def test_parameters_reach_the_model_as_fenced_data(service: Service, model_server: ModelServer) -> None:
    done = await service.run_agent(ADA, prompt="Write.", params={"tone": "dry", "limit": 2})

    user = model_server.calls_for("work")[0].messages[1]
    assert user["content"] == "Write.\n\n" + fenced("PARAMETERS", '{"limit": 2, "tone": "dry"}')
    assert done["params"] == {"tone": "dry", "limit": 2}


async def test_every_model_call_names_its_purpose_and_its_execution(
    service: Service, model_server: ModelServer
) -> None:
    done = await service.run_agent(ADA)

    assert [(call.purpose, call.execution_id) for call in model_server.calls] == [
        ("work", done["executionId"]),
        ("judge", done["executionId"]),
    ]


@pytest.mark.parametrize(
    ("wanted", "model"),
    [
        ({"model": "openai/gpt-4-turbo"}, "scripted-gpt-4-turbo"),
        ({"complexity": "simple"}, "scripted-claude-3-haiku"),
        ({"complexity": "standard"}, "scripted-claude-sonnet-4.5"),
        ({"complexity": "complex"}, "scripted-claude-3-opus"),
        ({"complexity": "complex", "model": "openai/gpt-4-turbo"}, "scripted-gpt-4-turbo"),
        ({}, "scripted-claude-sonnet-4.5"),
    ],
)
async def test_a_run_uses_the_model_that_the_client_chose(
    service: Service, model_server: ModelServer, wanted: dict[str, str], model: str
) -> None:
    await service.run_agent(ADA, **wanted)

    work, judge = model_server.calls
    assert work.model == model != judge.model


async def test_the_last_step_has_no_tools_and_the_run_reports_it(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_agent(ADA, maxAgentSteps=5)
    model_server.on("work", lambda call: completion(None, ("echo", {})) if call.tools else "What I have.")

    done = await service.run_agent(ADA)

    calls = model_server.calls_for("work")
    assert [bool(call.tools) for call in calls] == [True] * 5 + [False]
    assert "last step" in calls[-1].messages[-1]["content"]
    assert (done["status"], done["stopReason"], done["output"]["text"]) == ("completed", "max-steps", "What I have.")
    assert (await service.events(done["executionId"]))[-1]["stopReason"] == "max-steps"


async def test_an_answer_just_before_the_last_step_is_no_max_steps(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_agent(ADA, maxAgentSteps=5)
    turns = [completion(None, ("echo", {"turn": turn})) for turn in range(4)]
    model_server.on("work", first_then(*turns, "Done."))

    done = await service.run_agent(ADA)

    assert (len(model_server.calls_for("work")), done["stopReason"]) == (5, "completed")


async def test_a_model_that_always_calls_a_tool_still_ends(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_agent(ADA, maxAgentSteps=5)
    texts = iter(["So far.", *[None] * 5])
    model_server.on("work", lambda _: completion(next(texts), ("echo", {})))

    done = await service.run_agent(ADA, judge=False)

    assert len(model_server.calls_for("work")) == 6
    assert (done["status"], done["stopReason"], done["output"]["text"]) == ("completed", "max-steps", "So far.")
    assert done["tokenUsage"]["total"] == 6 * 15


async def test_an_empty_reply_to_the_last_step_is_not_an_answer(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_agent(ADA, maxAgentSteps=5)
    model_server.on("work", lambda call: completion("So far.", ("echo", {})) if call.tools else " ")

    done = await service.run_agent(ADA)

    assert (done["status"], done["error"]["code"]) == ("failed", "model-answer-invalid")


async def test_a_streamed_run_leaves_the_same_record_as_one_that_is_not(
    service: Service, model_server: ModelServer
) -> None:
    def script(call: Call) -> Reply:
        return "Streamed or not." if call.tool_results else completion("Hm.", ("echo", {"n": 1}), ("echo", {"n": 2}))

    model_server.on("work", script)

    plain = await service.run_agent(ADA)
    streamed = await service.run_agent(ADA, deltas=True)

    assert [bool(call.body.get("stream")) for call in model_server.calls_for("work")] == [False, False, True, True]
    assert comparable(await service.events(plain["executionId"])) == comparable(
        await service.events(streamed["executionId"])
    )
    for field in ("output", "runState", "tokenUsage", "costUsd", "qualityScore", "stopReason", "status"):
        assert plain[field] == streamed[field], field


def comparable(events: list[Json]) -> list[Json]:
    """The events without what differs between two runs; concurrent results by their call."""
    differing = ("executionId", "rootExecutionId", "timestamp", "durationMs", "seq", "callId", "startedAt")
    kept = [{name: value for name, value in event.items() if name not in differing} for event in events]
    for event in kept:
        rows = event.get("calls", [])
        event["calls"] = [{name: value for name, value in row.items() if name not in differing} for row in rows]
    return sorted(kept, key=lambda event: json.dumps(event, sort_keys=True))


async def test_a_judge_s_score_is_weighted_by_the_agent_s_department(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("judge", judgment(consistency=0.1))

    story = await service.run_agent("plot-specialist-001")
    writers = await service.run_agent(ADA)

    assert (story["qualityScore"], writers["qualityScore"]) == (70.0, 74.0)

"""Events and frames: the wire form."""

import orjson
import pytest

from app.events.types import (
    AgentCancelled,
    AgentComplete,
    AgentDelta,
    AgentError,
    AgentResponse,
    AgentRetry,
    AgentStart,
    AgentThinking,
    DepartmentComplete,
    DepartmentStart,
    Event,
    Frame,
    QualityCheck,
    ReviewStatusChanged,
    ToolCall,
    ToolResult,
    stamp,
)

GATE = {"name": "specialist", "threshold": 0.5, "passed": False, "score": None, "issues": []}
STAMP = {"seq": 7, "execution_id": "exec_1", "root_id": "exec_0", "timestamp": "2026-01-01T00:00:00.000Z"}


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (AgentStart(agent_id="a"), {"type": "agent-start", "agentId": "a", "contextHash": None}),
        (AgentThinking(agent_id="a", message="m"), {"type": "agent-thinking", "agentId": "a", "message": "m"}),
        (
            ToolCall(agent_id="a", tool_call_id="c", tool_name="t"),
            {"type": "tool-call", "agentId": "a", "toolCallId": "c", "toolName": "t", "input": None},
        ),
        (
            ToolResult(agent_id="a", tool_call_id="c", tool_name="t"),
            {"type": "tool-result", "agentId": "a", "toolCallId": "c", "toolName": "t", "output": None},
        ),
        (AgentResponse(agent_id="a", content=""), {"type": "agent-response", "agentId": "a", "content": ""}),
        (
            AgentComplete(agent_id="a", output=None, token_usage={}, cost_usd=None, stop_reason="completed"),
            {
                "type": "agent-complete",
                "agentId": "a",
                "output": None,
                "tokenUsage": {},
                "costUsd": None,
                "stopReason": "completed",
            },
        ),
        (
            AgentError(agent_id="a", error={"code": "c", "message": "m"}),
            {
                "type": "agent-error",
                "agentId": "a",
                "error": {"code": "c", "message": "m"},
                "costUsd": None,
                "stopReason": "error",
            },
        ),
        (
            AgentCancelled(token_usage={"total": 0}, cost_usd=0.0),
            {"type": "agent-cancelled", "tokenUsage": {"total": 0}, "costUsd": 0.0, "stopReason": "cancelled"},
        ),
        (
            AgentResponse(agent_id="a", content="", usage={"total": 5}),
            {"type": "agent-response", "agentId": "a", "content": "", "usage": {"total": 5}, "costUsd": None},
        ),
        (
            QualityCheck(agent_id="a", score=None, dimensions={}, gate=GATE),
            {"type": "quality-check", "agentId": "a", "score": None, "dimensions": {}, "gate": GATE},
        ),
        (
            ReviewStatusChanged(agent_id="a", status="approved"),
            {"type": "review-status", "agentId": "a", "status": "approved", "retryCount": 0},
        ),
        (DepartmentStart(department_slug="story"), {"type": "department-start", "departmentSlug": "story"}),
        (
            DepartmentComplete(department_slug="story", report={"text": None}),
            {"type": "department-complete", "departmentSlug": "story", "report": {"text": None}},
        ),
        (AgentRetry(reason="taken-over", attempt=1), {"type": "agent-retry", "reason": "taken-over", "attempt": 1}),
    ],
)
def test_an_event_has_its_required_fields_and_leaves_out_what_is_unset(event: Event, body: dict[str, object]) -> None:
    assert {"type": event.type, **event.body()} == body


def test_a_stamped_event_begins_with_the_common_fields() -> None:
    stamped = stamp(AgentResponse(agent_id="a", content="Hello."), **STAMP)  # pyright: ignore[reportArgumentType]

    assert list(stamped) == [
        "type",
        "seq",
        "executionId",
        "rootExecutionId",
        "timestamp",
        "agentId",
        "content",
    ]
    assert [stamped[name] for name in ("type", "seq", "executionId", "rootExecutionId")] == [
        "agent-response",
        7,
        "exec_1",
        "exec_0",
    ]


def test_nulls_inside_a_value_are_kept() -> None:
    assert ToolResult(tool_call_id="c", tool_name="t", output={"a": None}).body()["output"] == {"a": None}


def test_a_frame_is_the_event_s_json_with_its_number_and_type_at_hand() -> None:
    event = stamp(AgentResponse(agent_id="a", content="é\u2028🎬"), **STAMP)  # pyright: ignore[reportArgumentType]

    frame = Frame(event)

    assert (frame.seq, frame.type, frame.execution_id) == (7, "agent-response", "exec_1")
    assert orjson.loads(frame.text) == event


def test_live_text_has_no_number() -> None:
    delta = AgentDelta(execution_id="e", root_execution_id="r", agent_id="a", text="t")

    assert delta.model_dump(by_alias=True) == {
        "type": "agent-delta",
        "executionId": "e",
        "rootExecutionId": "r",
        "agentId": "a",
        "text": "t",
    }

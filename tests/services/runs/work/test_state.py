"""The state of an execution: a fold over its events, the same for who runs it and who takes it over."""

from typing import Any

import pytest

from app.models.agent_execution import ReviewStatus
from app.services.prompts.agents import revision_prompt
from app.services.runs.work.state import ExecutionState
from tests.fixtures.model_server import Json, ModelServer, completion, plan_of, review
from tests.fixtures.runs import ADA, DEPARTMENT, all_events, first_then, stored_tree
from tests.fixtures.services import Service

USAGE = {"input": 10, "output": 5, "total": 15, "cacheRead": 2, "cacheWrite": 1}


def event(kind: str, **fields: Any) -> Json:  # noqa: ANN401 - any field of an event
    """An event with its own fields alone."""
    return {"type": kind, **fields}


def call(identity: str, step: int = 1, **fields: Any) -> Json:  # noqa: ANN401 - any field of an event
    """A tool call."""
    return event("tool-call", toolCallId=identity, toolName="echo", input={"id": identity}, step=step, **fields)


def result(identity: str) -> Json:
    """Its result."""
    return event("tool-result", toolCallId=identity, toolName="echo", output={"id": identity})


def answer(text: str, step: int = 1) -> Json:
    """A turn's final text."""
    return event("agent-response", content=text, step=step)


def folded(*events: Json, max_revisions: int = 1) -> ExecutionState:
    """The state that some events leave."""
    state = ExecutionState(max_revisions=max_revisions)
    for one in events:
        state.apply(one)
    return state


def test_nothing_has_happened_at_first() -> None:
    state = folded()

    assert (state.started, state.ended, state.answer, state.turns, state.open_calls) == (False, False, None, [], {})
    assert (state.usage.as_json()["total"], state.cost_usd, state.quality_score) == (0, 0.0, None)


def test_the_calls_of_a_turn_are_one_turn_of_the_assistant() -> None:
    state = folded(event("agent-thinking", message="Hm.", step=1), call("a"), call("b"))

    assert len(state.turns) == 1
    assert state.turns[0]["content"] == "Hm."
    assert [one["id"] for one in state.turns[0]["tool_calls"]] == ["a", "b"]
    assert list(state.open_calls) == ["a", "b"]


def test_a_turn_without_text_begins_with_its_first_call() -> None:
    state = folded(call("a", step=1), result("a"), call("b", step=2))

    assert [turn["role"] for turn in state.turns] == ["assistant", "tool", "assistant"]
    assert (state.step, list(state.open_calls)) == (2, ["b"])


def test_results_are_in_the_order_of_their_calls_whatever_order_they_arrived_in() -> None:
    state = folded(call("a"), call("b"), call("c"), result("c"), result("a"), result("b"))

    assert [turn["tool_call_id"] for turn in state.turns[1:]] == ["a", "b", "c"]
    assert state.open_calls == {}


def test_results_of_an_earlier_turn_stay_where_they_are() -> None:
    state = folded(
        call("a", 1), call("b", 1), result("b"), result("a"), call("d", 2), call("c", 2), result("c"), result("d")
    )

    assert [turn.get("tool_call_id") for turn in state.turns] == [None, "a", "b", None, "d", "c"]


def test_arguments_that_were_no_json_go_back_to_the_model_as_it_wrote_them() -> None:
    state = folded(call("a", arguments='{"cut'))

    assert state.turns[0]["tool_calls"][0]["function"]["arguments"] == '{"cut'
    assert state.open_calls["a"].arguments == '{"cut'


def test_a_plan_is_no_turn_of_the_head() -> None:
    state = folded(event("agent-thinking", message="Because.", plan={"assignments": []}))

    assert (state.plan, state.turns, state.step) == ({"assignments": []}, [], 0)


def test_tokens_and_costs_add_up() -> None:
    state = folded(
        event("agent-response", content="x", step=1, usage=USAGE, costUsd=0.1),
        event("quality-check", score=0.5, usage=USAGE, costUsd=0.2),
    )

    assert state.usage.as_json() == {"input": 20, "output": 10, "total": 30, "cacheRead": 4, "cacheWrite": 2}
    assert state.cost_usd == pytest.approx(0.3)


def test_one_unknown_cost_makes_the_sum_unknown_for_good() -> None:
    state = folded(
        event("agent-response", content="x", step=1, usage=USAGE),
        event("quality-check", score=0.5, usage=USAGE, costUsd=0.2),
    )

    assert state.cost_usd is None


def test_a_score_is_stored_from_0_to_100() -> None:
    assert folded(event("quality-check", score=0.123456)).quality_score == 12.35
    assert folded(event("quality-check", score=None)).quality_score is None


def test_a_review_that_asks_for_a_revision_begins_the_next_attempt() -> None:
    state = folded(
        answer("First."),
        event("quality-check", score=0.5),
        event("review-status", status="revision-needed", notes="Shorter.", retryCount=0),
    )

    assert (state.answer, state.check, state.step, state.retry_count) == (None, None, 0, 1)
    assert state.turns[-1] == {"role": "user", "content": revision_prompt("Shorter.")}
    assert (state.is_reviewed, state.review_status) == (False, ReviewStatus.REVISION_NEEDED)


@pytest.mark.parametrize("max_revisions", [0, 1, 3])
def test_revisions_are_bounded(max_revisions: int) -> None:
    rounds: list[Json] = []
    for attempt in range(5):
        rounds += [answer("Draft."), event("review-status", status="revision-needed", retryCount=attempt)]

    state = folded(*rounds[: 2 * (max_revisions + 1)], max_revisions=max_revisions)

    assert (state.retry_count, state.answer) == (max_revisions, "Draft.")
    assert state.is_reviewed


@pytest.mark.parametrize("status", ["approved", "rejected", "pending"])
def test_any_other_decision_leaves_the_draft_as_it_is(status: str) -> None:
    state = folded(answer("First."), event("review-status", status=status, retryCount=0))

    assert (state.answer, state.review_status.value, state.is_reviewed) == ("First.", status, True)


@pytest.mark.parametrize(
    ("last", "failure"),
    [
        (event("agent-complete", output={}), None),
        (event("agent-error", error={"code": "c", "message": "m"}), {"code": "c", "message": "m"}),
        (event("agent-cancelled"), None),
    ],
)
def test_an_execution_ends_with_its_last_event(last: Json, failure: Json | None) -> None:
    state = folded(answer("x"), last)

    assert (state.ended, state.failure) == (True, failure)


def test_events_of_other_kinds_change_nothing() -> None:
    assert folded(event("agent-retry", reason="taken-over", attempt=1), event("made-up")) == folded()


async def test_the_stored_events_of_a_run_rebuild_the_history_that_it_ended_with(
    service: Service, model_server: ModelServer
) -> None:
    turns = completion("Hm.", ("echo", {"n": 1}), ("fail", {})), completion(None, ("echo", "{cut")), "First.", "Second."
    model_server.on("plan", plan_of((ADA, "A", [])))
    model_server.on("work", first_then(*turns))
    model_server.on("review", first_then(review("revision-needed", "Again."), review("approved")))
    done = await service.run_department(DEPARTMENT)
    ada = (await stored_tree(service, done["executionId"]))[ADA]

    state = folded(*await all_events(service, ada["executionId"]))

    assert state.turns == ada["runState"]["messages"][2:]
    assert state.usage.as_json() == ada["tokenUsage"]
    assert (state.answer, state.retry_count, state.ended) == ("Second.", 1, True)

"""The state of one execution, folded from its events only.

Run code changes it by appending events, and a process that takes a run over rebuilds it from the stored ones: there is
no second checkpoint that could drift from the audit record.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.kit.json_values import JsonObject, compact_json
from app.models.agent_execution import ReviewStatus
from app.models.approval import ApprovalStatus
from app.services.llm.calls import TokenUsage, add_costs, usage_in
from app.services.llm.context.mark import NO_MARK, ContextMark
from app.services.prompts.agents import revision_prompt
from app.services.prompts.fences import user_message
from app.services.tools.names import function_name

EDITED_NOTE = "A person approved this call with a different input."
REVISION = "revision"
"""The reason of an `agent-retry` whose cause is a revision of a descendant after the end."""


@dataclass
class OpenToolCall:
    """A tool call without a result; `arguments` is the model's text if it was not a JSON object.

    `is_cut` means that the arguments stopped at the model's output limit, `is_inherited` that another process may have
    run the call, with an unknown outcome. `is_asked` means that a person was asked, in this run or in the one that it
    retries, and `is_released` that the call was approved then; `approval_id` and `is_decided` are about this run.
    """

    id: str
    name: str
    input: Any
    arguments: str | None
    is_cut: bool = False
    is_inherited: bool = False
    is_asked: bool = False
    is_released: bool = False
    is_decided: bool = False
    approval_id: str | None = None


@dataclass
class ExecutionState:
    """A fold over the events of one execution; `step` counts the model calls of the current attempt."""

    max_revisions: int
    started: bool = False
    ended: bool = False
    reopened_at: str | None = None
    """When it was reopened after its end for a revision of it or of a descendant."""
    step: int = 0
    turns: list[JsonObject] = field(default_factory=list)
    open_calls: dict[str, OpenToolCall] = field(default_factory=dict)
    answer: str | None = None
    truncated: bool = False
    """Whether the current answer stopped at the model's output limit."""
    plan: JsonObject | None = None
    failure: JsonObject | None = None
    check: JsonObject | None = None
    review: JsonObject | None = None
    report: JsonObject | None = None
    progress: set[tuple[str, str | None]] = field(default_factory=set[tuple[str, str | None]])
    tool_calls: Counter[str] = field(default_factory=Counter[str])
    """How often it called each tool, without the calls copied from the run that it retries."""
    retry_count: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_usd: float | None = 0.0
    calls: list[JsonObject] = field(default_factory=list[JsonObject])
    """The ledger rows of its model calls."""
    counted_calls: int = 0
    """How many of them its last end has counted."""
    formatted: list[JsonObject] = field(default_factory=list[JsonObject])
    """The events of the formatting calls for the current answer."""
    mark: ContextMark = NO_MARK
    """How the last model call was fitted to the model's context."""

    def apply(self, event: JsonObject) -> None:
        """Apply one event."""
        self.count(event)
        if event["type"] in TURNS and ("usage" in event or "omitted" in event) and is_turn(event):
            self.mark = ContextMark.after(event, len(self.turns))
        fold = FOLDS.get(event["type"])
        if fold:
            fold(self, event)

    def count(self, event: JsonObject) -> None:
        """Add the tokens and costs of the calls that an event reports; events of earlier releases have no rows."""
        if rows := event.get("calls"):
            self.calls += rows
            for row in rows:
                self.usage += usage_in(row)
                self.cost_usd = add_costs(self.cost_usd, row["costUsd"])
            return
        for paid in (event, event.get("failedCall") or {}):
            if usage := paid.get("usage"):
                self.usage += TokenUsage.from_json(usage)
                self.cost_usd = add_costs(self.cost_usd, paid.get("costUsd"))

    def fold_start(self, _: JsonObject) -> None:
        """Record that the agent started."""
        self.started = True

    def fold_think(self, event: JsonObject) -> None:
        """Record a head's plan, a formatting call's answer, or the text that comes with a turn's tool calls."""
        if "plan" in event:
            self.plan = event["plan"]
        elif "format" in event:
            if event["format"]["valid"] or not event.get("copied"):  # a retry asks again
                self.formatted.append(event)
        else:
            self.step = event["step"]
            self.turns.append({"role": "assistant", "content": event["message"], **carried(event)})

    def fold_ask(self, event: JsonObject) -> None:
        """Record that a tool call waits for a person; one copied from another run needs a new approval."""
        call = self.open_calls.get(event["toolCallId"])
        if call is not None:
            call.is_asked = True
            call.is_decided = call.is_released = False
            call.approval_id = None if event.get("copied") else event["approvalId"]

    def fold_decide(self, event: JsonObject) -> None:
        """Record a person's decision on a tool call, or that its time is over."""
        call = self.open_calls.get(event["toolCallId"])
        if call is not None:
            call.is_released = call.is_released or event["status"] == ApprovalStatus.APPROVED
            call.is_decided = not event.get("copied")

    @property
    def undecided(self) -> list[str]:
        """The approvals that its calls wait for."""
        return [call.approval_id for call in self.open_calls.values() if call.approval_id and not call.is_decided]

    def fold_take_result(self, event: JsonObject) -> None:
        """Record a tool's result; a turn's results are in the order of its calls."""
        self.open_calls.pop(event["toolCallId"], None)
        begins = max((place for place, turn in enumerate(self.turns) if "tool_calls" in turn), default=-1)
        calls = self.turns[begins]["tool_calls"] if begins >= 0 else []
        order = {call["id"]: place for place, call in enumerate(calls)}
        results = [*self.turns[begins + 1 :], tool_message(event)]
        self.turns[begins + 1 :] = sorted(results, key=lambda result: order.get(result.get("tool_call_id"), -1))

    def fold_answer(self, event: JsonObject) -> None:
        """Record the attempt's answer."""
        self.step = event["step"]
        self.turns.append({"role": "assistant", "content": event["content"], **carried(event)})
        self.answer = event["content"]
        self.truncated = bool(event.get("outputTruncated"))

    def fold_check(self, event: JsonObject) -> None:
        """Record the judge's verdict."""
        self.check = event

    def fold_report(self, event: JsonObject) -> None:
        """Record the department's report."""
        self.report = event["report"]

    def fold_progress(self, event: JsonObject) -> None:
        """Record that an orchestration reached a stage, for a department or as a whole."""
        self.progress.add((event["stage"], event.get("departmentSlug")))

    def fold_end(self, event: JsonObject) -> None:
        """Record the end of the execution."""
        self.ended = True
        self.counted_calls = len(self.calls)
        self.failure = event.get("error")

    def fold_call_tool(self, event: JsonObject) -> None:
        """Add a call to the assistant's turn of its step; a turn without text starts with its first call."""
        begins = event["step"] != self.step
        self.step = event["step"]
        if begins or not self.turns or self.turns[-1]["role"] != "assistant":
            self.turns.append({"role": "assistant", "content": None, **carried(event)})
        arguments = event.get("arguments")
        if arguments is None:
            arguments = json.dumps(event.get("input"), ensure_ascii=False)
        name = function_name(event["toolName"])
        call = {
            "id": event["toolCallId"],
            "type": "function",
            "function": {"name": name, "arguments": arguments},
            **(event.get("callData") or {}),
        }
        self.turns[-1].setdefault("tool_calls", []).append(call)
        if not event.get("copied"):
            self.tool_calls[name] += 1
        self.open_calls[event["toolCallId"]] = OpenToolCall(
            event["toolCallId"],
            event["toolName"],
            event.get("input"),
            event.get("arguments"),
            is_cut=bool(event.get("argumentsCut")),
        )

    def fold_review(self, event: JsonObject) -> None:
        """Apply a decision; one that requests a revision starts the next attempt while revisions are left."""
        self.review = event
        reopens = bool(event.get("reopens"))
        if reopens or (event["status"] == ReviewStatus.REVISION_NEEDED and self.retry_count < self.max_revisions):
            if reopens:
                self._reopen(event)
            self.turns.append(user_message(revision_prompt(event.get("notes") or "", by_person=reopens)))
            self.retry_count += 1
            self._begin_attempt()

    def fold_retry(self, event: JsonObject) -> None:
        """Restart the work that used a descendant which is revised after the end."""
        if event["reason"] == REVISION:
            self._reopen(event)
            self.turns = []
            self.mark = NO_MARK
            self._begin_attempt()

    def _begin_attempt(self) -> None:
        """Start an attempt without an answer."""
        self.answer = None
        self.truncated = False
        self.formatted = []
        self.check = None
        self.step = 0

    def _reopen(self, event: JsonObject) -> None:
        """Undo the end."""
        self.ended = False
        if not event.get("copied"):
            self.reopened_at = event["timestamp"]
        self.failure = None
        self.report = None
        self.progress -= {("result", None), ("completed", None)}

    @property
    def retries(self) -> int:
        """How many of its model calls repeated a failed one."""
        return sum(row["attempt"] > 1 for row in self.calls)

    @property
    def score(self) -> float | None:
        """The judge's score of the current attempt, 0 to 1."""
        return self.check["score"] if self.check else None

    @property
    def quality_score(self) -> float | None:
        """The score as stored, 0 to 100."""
        return None if self.score is None else round(self.score * 100, 2)

    @property
    def review_status(self) -> ReviewStatus:
        """The last decision."""
        return ReviewStatus(self.review["status"]) if self.review else ReviewStatus.PENDING

    @property
    def is_reviewed(self) -> bool:
        """Whether the current attempt has been reviewed."""
        return self.review is not None and self.review.get("retryCount", 0) == self.retry_count


def is_turn(event: JsonObject) -> bool:
    """Return whether an event's call belongs to the agent's conversation."""
    return "plan" not in event and "format" not in event


def carried(event: JsonObject) -> JsonObject:
    """Return the message fields that return a turn's provider data to the model that made it."""
    fields: JsonObject = dict(event.get("providerData") or {})
    return {"reasoning_content": event["reasoning"], **fields} if event.get("reasoning") else fields


def tool_message(event: JsonObject) -> JsonObject:
    """Return the chat message with a tool's result; the model learns of an input that a person has edited."""
    output = event.get("output")
    if event.get("editedInput") is not None:
        output = {"note": EDITED_NOTE, "input": event["editedInput"], "output": output}
    content = compact_json(output)
    return {
        "role": "tool",
        "tool_call_id": event["toolCallId"],
        "name": function_name(event["toolName"]),
        "content": content,
    }


TURNS = ("agent-thinking", "tool-call", "agent-response")
"""The event types that can start a turn: the first one has the call's usage and omissions."""
FOLDS: dict[str, Callable[[ExecutionState, JsonObject], None]] = {
    "agent-start": ExecutionState.fold_start,
    "agent-thinking": ExecutionState.fold_think,
    "tool-call": ExecutionState.fold_call_tool,
    "approval-requested": ExecutionState.fold_ask,
    "approval-decided": ExecutionState.fold_decide,
    "tool-result": ExecutionState.fold_take_result,
    "agent-response": ExecutionState.fold_answer,
    "quality-check": ExecutionState.fold_check,
    "review-status": ExecutionState.fold_review,
    "agent-retry": ExecutionState.fold_retry,
    "department-complete": ExecutionState.fold_report,
    "orchestrator-progress": ExecutionState.fold_progress,
    "agent-complete": ExecutionState.fold_end,
    "agent-cancelled": ExecutionState.fold_end,
    "agent-error": ExecutionState.fold_end,
}

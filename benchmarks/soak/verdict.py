"""The verdict of the soak: each promise, checked in the database, the model server's log and the clients' records."""

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.database.connection import Database
from app.events.log.full_events import tree_events
from app.events.types import Frame
from benchmarks.soak.clients import Followed
from benchmarks.soak.models import ReceivedCall
from benchmarks.soak.parts import Freeze
from benchmarks.soak.tools import EFFECTIVE, REPEATABLE, Effect

ENDINGS = ("agent-complete", "agent-error", "agent-cancelled")
TERMINAL = ("completed", "failed", "cancelled")
MAX_SHOWN = 5
MARK = re.compile(r"mark-\d+")
WAKING_SECONDS = 0.25
"""How long a process may take after a freeze to finish a send that it had begun, on a busy machine."""
DONE, UNKNOWN, NO_RESULT = "done", "outcome-unknown", "no result"


@dataclass(frozen=True)
class Evidence:
    """The observations from outside: the clients' records, the model server's calls, effects of tools, and freezes."""

    runs: list[Followed]
    keys: list[str]
    calls: list[ReceivedCall]
    effects: Counter[Effect]
    freezes: list[Freeze]


@dataclass
class Verdict:
    """Each promise with its violations, and the figures of the soak."""

    broken: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    statuses: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    events: int = 0
    takeovers: int = 0
    model_calls: int = 0
    lost_calls: int = 0
    late_calls: int = 0
    outcomes: Counter[tuple[str, str, int]] = field(default_factory=Counter[tuple[str, str, int]])
    """The number of calls by tool, outcome and number of effects."""
    frames: int = 0
    median_seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every promise held."""
        return not any(self.broken.values())

    def outcomes_of(self, tool: str) -> Counter[str]:
        """Count the outcomes of a tool's calls, with the number of effects unless it is `done` with one effect."""
        counts = Counter[str]()
        for (name, outcome, effects), count in self.outcomes.items():
            if name == tool:
                counts[outcome if (outcome, effects) == (DONE, 1) else f"{outcome} (effects: {effects})"] += count
        return counts


async def judge(database: Database, evidence: Evidence) -> Verdict:
    """Check everything."""
    verdict = Verdict(broken={name: [] for name in PROMISES})
    executions = database["agent-executions"]
    documents = {raw["executionId"]: raw async for raw in executions.find({}, {"events": 0, "runState": 0})}
    trees: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in evidence.runs:
        root = documents.get(run.execution_id)
        if root is None:
            verdict.broken[STORED].append(run.execution_id)
            continue
        trees[run.execution_id] = [event async for _, event in tree_events(database, run.execution_id)]
        check_run(verdict, run, root, trees[run.execution_id])
    for raw in documents.values():
        if raw["status"] not in TERMINAL:
            verdict.broken[ENDED].append(f"{raw['executionId']} is {raw['status']}")
    roots = [raw for raw in documents.values() if raw["executionId"] == raw.get("rootExecutionId")]
    if len(roots) > len(evidence.keys):
        verdict.broken[ONE_RUN].append(f"{len(roots)} runs of {len(evidence.keys)} keys")
    check_calls(verdict, [event for events in trees.values() for event in events], evidence)
    check_effects(verdict, trees, evidence.effects)
    durations = [raw["executionTime"] / 1000 for raw in roots if raw.get("executionTime") is not None]
    verdict.median_seconds = statistics.median(durations or [0.0])
    return verdict


def check_run(verdict: Verdict, run: Followed, root: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """Its end, its numbers, its tool calls, and what its subscriber saw."""
    verdict.statuses[root["status"]] += 1
    verdict.takeovers += root.get("takeovers", 0)
    verdict.events += len(events)
    if root.get("error"):
        verdict.errors[root["error"]["code"]] += 1
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        verdict.broken[GAPLESS].append(run.execution_id)
    ends = Counter(event["executionId"] for event in events if event["type"] in ENDINGS)
    members = {event["executionId"] for event in events}
    if any(ends[one] != 1 for one in members):
        verdict.broken[ENDED].append(f"{run.execution_id}: {dict(ends)}")
    check_tools(verdict, run.execution_id, events)
    check_frames(verdict, run, events)


def check_tools(verdict: Verdict, root_id: str, events: list[dict[str, Any]]) -> None:
    """No tool call or result is there twice, no result without its call; what is completed has all its results."""
    results = Counter(call_of(event) for event in events if event["type"] == "tool-result")
    asked = Counter(call_of(event) for event in events if event["type"] == "tool-call")
    completed = {event["executionId"] for event in events if event["type"] == "agent-complete"}
    open_calls = {call for call in asked.keys() - results.keys() if call[0] in completed}
    doubled = any(count > 1 for count in (*results.values(), *asked.values()))
    if doubled or open_calls or not results.keys() <= asked.keys():
        verdict.broken[TOOLS].append(root_id)


def call_of(event: dict[str, Any]) -> tuple[str, str]:
    """Which tool call an event is about."""
    return event["executionId"], event["toolCallId"]


def check_frames(verdict: Verdict, run: Followed, events: list[dict[str, Any]]) -> None:
    """A subscriber saw every stored event once, in order, byte for byte, and nothing else."""
    verdict.frames += len(run.frames)
    stored = {event["seq"]: Frame(event).data for event in events}
    if any(stored.get(seq) != data for seq, data in run.frames):
        verdict.broken[SEEN].append(run.execution_id)
    if not run.ended or [seq for seq, _ in run.frames] != list(range(1, len(events) + 1)):
        verdict.broken[FOLLOWED].append(run.execution_id)


def check_calls(verdict: Verdict, events: list[dict[str, Any]], evidence: Evidence) -> None:
    """Of the calls that ask the same, the one whose answer was saved came in last: nothing saved is asked again.

    What counts is when a call came in. One that was under way when its process was killed or frozen came in before
    that of whoever took the run over, whenever it is answered, and whether anybody hears the answer.

    One thing is forgiven. A process looks at its clock whether a run is surely still its own, then makes up the call
    and sends it. Frozen in between, it sends it when it wakes, and nothing could keep it from that. So a call may come
    in late from a process that woke a moment ago, once a freeze: any other was begun by who looked after waking, and
    had to see that it is too late.
    """
    saved = {mark for event in events if "usage" in event for mark in MARK.findall(str(event))}
    by_content: defaultdict[tuple[str, str], list[ReceivedCall]] = defaultdict(list)
    for call in evidence.calls:
        by_content[call.execution_id, call.content].append(call)
    verdict.model_calls = sum(call.mark is not None for call in evidence.calls)
    for same in by_content.values():
        places = [place for place, call in enumerate(same) if call.mark in saved]
        verdict.lost_calls += sum(call.mark is not None for call in same) - len(places)
        late = same[places[0] + 1 :] if places else []
        freezes = [freeze_before(call, evidence.freezes) for call in late]
        verdict.late_calls += sum(freeze is not None for freeze in freezes)
        if len(places) > 1 or None in freezes or len(set(freezes)) < len(freezes):
            senders = [call.sender for call in same]
            verdict.broken[CALLS].append(f"{same[0].execution_id}: {len(same)} calls by {senders}, saved {places}")


def freeze_before(call: ReceivedCall, freezes: list[Freeze]) -> Freeze | None:
    """The freeze from which the call's sender had just woken when the call came in."""
    return next(
        (one for one in freezes if one.name == call.sender and one.woke <= call.at < one.woke + WAKING_SECONDS), None
    )


def check_effects(verdict: Verdict, trees: Mapping[str, list[dict[str, Any]]], effects: Counter[Effect]) -> None:
    """Compare the effects of each call of a tool with its stored result.

    A tool that may not be repeated has its effect at most once, and only after its call is stored. Its outcome may be
    unknown if the run was taken over; that of a repeatable tool never is. A successful result implies an effect. Any
    other error is a violation, because the soak does not disturb tools.
    """
    stored: set[Effect] = set()
    for root_id, events in trees.items():
        was_taken_over = any(event["type"] == "agent-retry" and event["reason"] == "taken-over" for event in events)
        outcomes = {call_of(event): outcome_of(event) for event in events if event["type"] == "tool-result"}
        for event in events:
            if event["type"] != "tool-call" or event["toolName"] not in (EFFECTIVE, REPEATABLE):
                continue
            tool, mark = effect = event["toolName"], event["input"]["text"]
            stored.add(effect)
            outcome = outcomes.get(call_of(event), NO_RESULT)
            verdict.outcomes[tool, outcome, effects[effect]] += 1
            may_be_unknown = was_taken_over and tool == EFFECTIVE
            honest = {DONE: effects[effect] > 0, UNKNOWN: may_be_unknown, NO_RESULT: True}
            if not honest.get(outcome):
                verdict.broken[OUTCOMES].append(f"{root_id}: {tool} of {mark}: {outcome}, effects {effects[effect]}")
    for effect, count in effects.items():
        if effect[0] == EFFECTIVE and (count > 1 or effect not in stored):
            verdict.broken[EFFECTS].append(f"{effect}: {count} times, stored: {effect in stored}")


def outcome_of(event: dict[str, Any]) -> str:
    """Return `done`, or the code of the error in a tool's result."""
    return event["output"].get("error", {}).get("code", DONE)


STORED = "every accepted run is stored"
ENDED = "every execution ended exactly once"
GAPLESS = "seq is 1, 2, 3 … in every tree"
CALLS = "no model call whose answer was saved is made again"
TOOLS = "no tool call has two results, and none of a completed execution lacks one"
EFFECTS = "no tool has its effect twice, or before its call is stored, unless it is marked idempotent"
OUTCOMES = "a tool's result tells of its effect; only a crash makes it unknown, never if it is marked idempotent"
ONE_RUN = "one run for an idempotency key"
SEEN = "no subscriber saw what is not stored, byte for byte"
FOLLOWED = "every subscriber saw every event once, in order, to the end"
PROMISES = (STORED, ENDED, GAPLESS, CALLS, TOOLS, EFFECTS, OUTCOMES, ONE_RUN, SEEN, FOLLOWED)

"""What the soak proves: each promise, by the database, the model server's log and the subscribers' records."""

import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from app.events.types import Frame
from app.events.whole import tree_events
from app.models.database import Database
from benchmarks.soak.clients import Followed
from benchmarks.soak.models import Asked

ENDINGS = ("agent-complete", "agent-error", "agent-cancelled")
TERMINAL = ("completed", "failed", "cancelled")
MAX_SHOWN = 5
MARK = re.compile(r"mark-\d+")


@dataclass
class Verdict:
    """Each promise with what breaks it, and figures beside them."""

    broken: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    statuses: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    events: int = 0
    takeovers: int = 0
    model_calls: int = 0
    lost_calls: int = 0
    frames: int = 0
    median_seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every promise held."""
        return not any(self.broken.values())


async def judge(database: Database, runs: list[Followed], keys: list[str], calls: list[Asked]) -> Verdict:
    """Check everything."""
    verdict = Verdict(broken={name: [] for name in PROMISES})
    executions = database["agent-executions"]
    documents = {raw["executionId"]: raw async for raw in executions.find({}, {"events": 0, "runState": 0})}
    trees: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
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
    if len(roots) > len(keys):
        verdict.broken[ONE_RUN].append(f"{len(roots)} runs of {len(keys)} keys")
    check_calls(verdict, [event for events in trees.values() for event in events], calls)
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
    results = Counter((event["executionId"], event["toolCallId"]) for event in events if event["type"] == "tool-result")
    asked = Counter((event["executionId"], event["toolCallId"]) for event in events if event["type"] == "tool-call")
    if any(count > 1 for count in (*results.values(), *asked.values())) or not results.keys() <= asked.keys():
        verdict.broken[TOOLS].append(run.execution_id)
    check_frames(verdict, run, events)


def check_frames(verdict: Verdict, run: Followed, events: list[dict[str, Any]]) -> None:
    """A subscriber saw every stored event once, in order, byte for byte, and nothing else."""
    verdict.frames += len(run.frames)
    stored = {event["seq"]: Frame(event).data for event in events}
    if any(stored.get(seq) != data for seq, data in run.frames):
        verdict.broken[SEEN].append(run.execution_id)
    if not run.ended or [seq for seq, _ in run.frames] != list(range(1, len(events) + 1)):
        verdict.broken[FOLLOWED].append(run.execution_id)


def check_calls(verdict: Verdict, events: list[dict[str, Any]], calls: list[Asked]) -> None:
    """Of the calls that ask the same, the one whose answer was saved is the last: nothing saved is asked again."""
    saved = {mark for event in events if "usage" in event for mark in MARK.findall(str(event))}
    by_content: defaultdict[tuple[str, str], list[Asked]] = defaultdict(list)
    for call in calls:
        by_content[call.execution_id, call.content].append(call)
    verdict.model_calls = len(calls)
    for same in by_content.values():
        places = [place for place, call in enumerate(same) if call.mark in saved]
        verdict.lost_calls += len(same) - len(places)
        if len(places) > 1 or (places and places[0] != len(same) - 1):
            verdict.broken[CALLS].append(f"{same[0].execution_id}: {len(same)} calls, saved {places}")


STORED = "every accepted run is stored"
ENDED = "every execution ended exactly once"
GAPLESS = "seq is 1, 2, 3 … in every tree"
CALLS = "no model call whose answer was saved is made again"
TOOLS = "no tool call has two results"
ONE_RUN = "one run for an idempotency key"
SEEN = "no subscriber saw what is not stored, byte for byte"
FOLLOWED = "every subscriber saw every event once, in order, to the end"
PROMISES = (STORED, ENDED, GAPLESS, CALLS, TOOLS, ONE_RUN, SEEN, FOLLOWED)

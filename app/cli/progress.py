"""A run on the terminal: a line for each event as it arrives, then the report, gates, tokens and cost."""

import json
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from app.kit.json_values import JsonObject

WIDE = 120
"""The width in columns from which a terminal shows an event on one line."""
INDENT = "    "
MAX_WRAPPED_LINES = 6
AGENT_WIDTH = 25
TYPE_WIDTH = 19
HEAD_FIELDS = frozenset({"type", "seq", "executionId", "rootExecutionId", "timestamp", "agentId"})
CONTROL_CHARACTERS = dict.fromkeys((*range(32), 127, *range(128, 160)), " ")
COLORS = {
    "agent-start": "cyan",
    "agent-thinking": "white",
    "tool-call": "yellow",
    "tool-result": "yellow",
    "agent-response": "green",
    "agent-complete": "bold green",
    "agent-error": "bold red",
    "quality-check": "magenta",
    "review-status": "bold magenta",
    "department-start": "bold blue",
    "department-complete": "bold blue",
    "orchestrator-progress": "bold cyan",
    "budget-alert": "bold yellow",
    "approval-requested": "bold yellow",
    "approval-decided": "bold yellow",
}


def event_line(event: JsonObject) -> Text:
    """Format an event as one line; control characters in models' text are removed."""
    kind = event["type"]
    line = Text()
    line.append(f"{str(event.get('timestamp'))[11:23]}  ", style="dim")
    line.append(f"{plain(event.get('agentId') or ''):<{AGENT_WIDTH}.{AGENT_WIDTH}}  ")
    line.append(f"{kind:<{TYPE_WIDTH}}  ", style=COLORS.get(kind, ""))
    line.append(plain(gist_of(event)))
    return line


def print_event(console: Console, event: JsonObject) -> None:
    """Print an event on one cropped line, or wrapped below its heading on a narrow terminal."""
    if console.width >= WIDE:
        console.print(event_line(event), no_wrap=True, overflow="ellipsis", crop=True)
        return
    heading = Text()
    heading.append(f"{str(event.get('timestamp'))[11:19]} ", style="dim")
    heading.append(f"{plain(event.get('agentId') or '')} ")
    heading.append(event["type"], style=COLORS.get(event["type"], ""))
    console.print(heading, no_wrap=True, overflow="ellipsis", crop=True)
    lines = Text(plain(gist_of(event))).wrap(console, max(console.width - len(INDENT), 1))
    for line in lines[:MAX_WRAPPED_LINES]:
        console.print(Text(INDENT) + line, no_wrap=True, crop=True)
    if len(lines) > MAX_WRAPPED_LINES:
        console.print(Text(f"{INDENT}… {len(lines) - MAX_WRAPPED_LINES} more lines", style="dim"))


def gist_of(event: JsonObject) -> str:
    """Summarize an event."""
    gist = GISTS.get(event["type"])
    return gist(event) if gist else compact({name: value for name, value in event.items() if name not in HEAD_FIELDS})


def plan_gist(plan: JsonObject | None) -> str:
    """Summarize a plan: the assigned agents and the agents on which each depends."""
    if not plan:
        return ""
    parts = [
        row["agentId"] + (f" (after {', '.join(row['dependsOn'])})" if row["dependsOn"] else "")
        for row in plan["assignments"]
    ]
    return f"Plan: {'; '.join(parts)}. "


def format_gist(outcome: JsonObject | None) -> str:
    """Summarize a formatting call: whether its data matches the schema, and if not, the first problem."""
    if not outcome:
        return ""
    if outcome["valid"]:
        return "Data matches the schema: "
    first = outcome["problems"][0]
    return f"Data does not match the schema ({first['path'] or 'answer'}: {first['message']}): "


def gate_gist(gate: JsonObject) -> str:
    """Summarize the verdict of a gate."""
    score = "no score" if gate["score"] is None else f"{gate['score']:.2f}"
    verdict = "passed" if gate["passed"] else "not passed"
    issues = f": {'; '.join(gate['issues'])}" if gate["issues"] else ""
    return f"{gate['name']} gate {verdict}, {score} (threshold {gate['threshold']:.2f}){issues}"


def ending_gist(event: JsonObject) -> str:
    """Summarize the end of an execution, with tokens and cost."""
    return f"{event['stopReason']}, {event['tokenUsage']['total']} tokens, {cost_text(event.get('costUsd'))}"


def decider_gist(event: JsonObject) -> str:
    """Name the person who decided, and their message."""
    name = (event.get("decidedBy") or {}).get("name") or "no one"
    return f"{name}: {event['message']}" if event.get("message") else name


GISTS: dict[str, Callable[[JsonObject], str]] = {
    "agent-start": lambda event: f"{event.get('name')} on the model {event.get('model')}",
    "agent-thinking": lambda event: plan_gist(event.get("plan")) + format_gist(event.get("format")) + event["message"],
    "tool-call": lambda event: f"{event['toolName']}({compact(event.get('input'))})",
    "tool-result": lambda event: f"{event['toolName']} → {compact(event.get('output'))}",
    "agent-response": lambda event: event["content"],
    "quality-check": lambda event: gate_gist(event["gate"]),
    "review-status": lambda event: f"{event['status']} by {event.get('reviewedBy')}: {event.get('notes')}",
    "agent-complete": ending_gist,
    "agent-error": lambda event: f"{event['error']['code']}: {event['error']['message']}",
    "department-start": lambda event: event["departmentSlug"],
    "department-complete": lambda event: event["report"]["summary"],
    "agent-retry": lambda event: f"{event['reason']}, attempt {event['attempt']}",
    "approval-requested": lambda event: (
        f"{event['toolName']}({compact(event.get('input'))}) waits for a person: {event['approvalId']}"
    ),
    "approval-decided": lambda event: f"{event['toolName']}: {event['status']} by {decider_gist(event)}",
    "budget-alert": lambda event: f"{event['ratio']:.0%} of the budget of {event['scope']} is used",
    "orchestrator-progress": lambda event: f"{event['done']} of {event['total']} departments: {event['message']}",
}


def print_outcome(console: Console, execution: JsonObject, tree: JsonObject) -> None:
    """Print the report or answer, the gates, and the cost of each execution of the tree."""
    output = execution.get("output") or {}
    report = output.get("report")
    if execution["status"] == "failed":
        error = execution.get("error") or {}
        console.print(Text(f"\nThe run failed: {error.get('code')}: {plain(str(error.get('message')))}", style="red"))
    elif output.get("text"):
        console.print(Text("\nReport\n" if report else "\nAnswer\n", style="bold"))
        text = "\n".join(map(plain, output["text"].split("\n")))
        console.print(Markdown(text) if console.is_terminal else Text(text))
    data = output.get("data")
    if data is not None and not is_json(str(output.get("text"))):
        console.print(Text("\nData\n", style="bold"))
        console.print(Text(json.dumps(data, ensure_ascii=False, indent=2)))
    if report:
        console.print()
        console.print(gates_table(report["gates"]))
    console.print()
    console.print(cost_table(tree))


def gates_table(gates: list[JsonObject]) -> Table:
    """Build a table of the gates of a report."""
    table = Table(title="Quality gates", title_justify="left", box=None, pad_edge=False)
    for heading in ("gate", "of", "score", "threshold", "", "issues"):
        table.add_column(heading)
    for gate in gates:
        score = "none" if gate["score"] is None else f"{gate['score']:.2f}"
        verdict = Text("passed", style="green") if gate["passed"] else Text("not passed", style="red")
        issues = plain("; ".join(gate["issues"]))
        subject = plain(gate.get("agentId") or gate.get("department") or "")
        table.add_row(gate["name"], subject, score, f"{gate['threshold']:.2f}", verdict, Text(issues))
    if not any(gate["name"] == "orchestrator" for gate in gates):
        table.add_row("orchestrator", "", "", "0.75", Text("for runs over several departments", style="dim"), "")
    return table


def cost_table(tree: JsonObject) -> Table:
    """Build a table with the status, score, tokens and cost of every execution of a tree, and the totals."""
    table = Table(title="Tokens and cost", title_justify="left", box=None, pad_edge=False)
    table.add_column("agent")
    for heading in ("status", "review", "score", "input", "output", "cost"):
        table.add_column(heading, justify="left" if heading in ("status", "review") else "right")
    nodes = nodes_of(tree)
    for node in nodes:
        usage = node["tokenUsage"] or {}
        score = "" if node["qualityScore"] is None else f"{node['qualityScore']:.0f}"
        cells = (node["status"], node["reviewStatus"], score, str(usage.get("input", 0)), str(usage.get("output", 0)))
        table.add_row(plain(str(node["agent"])), *cells, cost_text(node["costUsd"]))
    totals = [sum((node["tokenUsage"] or {}).get(kind, 0) for node in nodes) for kind in ("input", "output")]
    costs = [node["costUsd"] for node in nodes]
    total_cost = None if any(cost is None for cost in costs) else sum(costs)
    table.add_section()
    table.add_row("total", "", "", "", str(totals[0]), str(totals[1]), cost_text(total_cost), style="bold")
    return table


def nodes_of(tree: JsonObject) -> list[JsonObject]:
    """Return the executions of a tree, parents before children."""
    return [tree, *(node for child in tree["children"] for node in nodes_of(child))]


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, by default with an `s` for more than one."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def cost_text(cost: float | None) -> str:
    """Format a cost in US dollars."""
    return "price unknown" if cost is None else f"${cost:.4f}"


def is_json(text: str) -> bool:
    """Return whether a text is JSON, so that its data need not be printed again."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def compact(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Format a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    """Return the text on one line, without control characters."""
    return text.translate(CONTROL_CHARACTERS)

"""The demo model: plans, works, judges, reviews and reports offline, and always the same way.

It stands where a language model would, behind LiteLLM like any other: it knows nothing of a run but the messages, the
tools and the schema it is given. What it writes is made from the request, from its role and from what tools answered.
"""

import json
from dataclasses import dataclass

from app.demo.studio.arguments import Builder
from app.demo.studio.plans import ids_allowed, write_plan
from app.demo.studio.premise import read_premise
from app.demo.studio.reading import (
    as_list,
    as_object,
    is_last_step,
    request_of,
    revision_notes,
    role_of,
    tool_outcomes,
)
from app.demo.studio.reports import entries_in, write_report
from app.demo.studio.verdicts import write_judgement, write_judgements, write_review
from app.demo.studio.vocabulary import PROSE_NAMES, Draft
from app.demo.studio.works import MAX_CALLS, excerpt_of, thinking, wanted_calls, write_work
from app.kit.json_values import JsonObject


@dataclass(frozen=True)
class DemoToolCall:
    """A tool call as the model asks for it; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class DemoAnswer:
    """One turn of the model: text, and the tools it wants called."""

    text: str
    tool_calls: tuple[DemoToolCall, ...] = ()


def answer(
    *, purpose: str, messages: list[JsonObject], tools: list[JsonObject], schema: JsonObject | None
) -> DemoAnswer:
    """Answer a chat in OpenAI's form; the same input gives the same answer, and no input makes it raise.

    `purpose` is the run's (`plan`, `work`, `judge`, `review`, `report`, `orchestrate`; anything else is work), `schema`
    the JSON schema that the answer has to match, if data is wanted.
    """
    chat = [as_object(message) for message in messages]
    if purpose in ("plan", "judge", "review"):
        return DemoAnswer(as_json(decision(purpose, chat, schema)))
    if schema is not None:
        return DemoAnswer(as_json(built(chat, schema)))
    if purpose in ("report", "orchestrate"):
        return report(chat, tools)
    return work(chat, tools)


def decision(purpose: str, chat: list[JsonObject], schema: JsonObject | None) -> JsonObject:
    """The data of a plan, a judgement or a review; built from the schema alone where that asks for something else."""
    match purpose:
        case "plan":
            told = write_plan(chat, schema, role_of(chat))
        case "judge":
            batch = ids_allowed(schema, "verdicts")
            told = write_judgements(chat, batch) if batch else write_judgement(chat)
        case _:
            told = write_review(chat, role_of(chat))
    if all(name in told for name in as_list(as_object(schema).get("required"))):
        return told
    return as_object(built(chat, schema))


def built(chat: list[JsonObject], schema: JsonObject | None) -> object:
    """A value for a schema that this model knows nothing about."""
    root = as_object(schema)
    return Builder(root, Draft(read_premise(request_of(chat)))).value(root)


def work(chat: list[JsonObject], tools: list[JsonObject]) -> DemoAnswer:
    """A specialist's turn: tools first, where any are offered and none has answered yet; then the whole work."""
    if tools and not is_last_step(chat) and not tool_outcomes(chat):
        is_revision = revision_notes(chat) is not None
        premise = read_premise(request_of(chat))
        draft = Draft(premise, revised=is_revision, text=excerpt_of(chat, premise, revised=is_revision))
        calls = wanted_calls(tools, draft, turn=len(chat), most=1 if is_revision else MAX_CALLS)
        if calls:
            return with_calls(thinking(chat, [name for _, name, _ in calls]), calls)
    return DemoAnswer(write_work(chat))


def report(chat: list[JsonObject], tools: list[JsonObject]) -> DemoAnswer:
    """A head's turn: one check of the draft, where a tool is offered and none has answered yet; then the report."""
    role = role_of(chat)
    text = write_report(chat, role)
    if tools and not is_last_step(chat) and not tool_outcomes(chat):
        draft = Draft(read_premise(request_of(chat)), text=text)
        calls = wanted_calls(sorted(tools, key=reads_no_prose), draft, turn=len(chat), most=1)
        if calls:
            parts = len(entries_in(chat))
            told = f"All {parts} parts are in and the report is drafted." if parts > 1 else "The report is drafted."
            return with_calls(f"{told} I will run {calls[0][1]} on it before I put my name to it.", calls)
    return DemoAnswer(text)


def reads_no_prose(tool: JsonObject) -> bool:
    """Whether a tool takes no running text, so that a report is nothing to give it."""
    parameters = as_object(as_object(as_object(tool).get("function")).get("parameters"))
    return not any(name in PROSE_NAMES for name in as_object(parameters.get("properties")))


def with_calls(text: str, calls: list[tuple[str, str, str]]) -> DemoAnswer:
    """A turn that asks for tools."""
    return DemoAnswer(text, tuple(DemoToolCall(id_, name, arguments) for id_, name, arguments in calls))


def as_json(value: object) -> str:
    """A value as the text of an answer."""
    return json.dumps(value, ensure_ascii=False)

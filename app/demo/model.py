"""The demo model: plans, works, judges, reviews and reports offline and deterministically.

It takes the place of a language model behind LiteLLM. Its answers are made from the request's messages, tools, schema
and `CallMetadata`.
"""

import json
from dataclasses import dataclass

from app.demo.studio.arguments import Builder
from app.demo.studio.plans import ids_allowed, write_plan
from app.demo.studio.premise import read_premise
from app.demo.studio.reading import (
    Conversation,
    as_list,
    as_object,
    asks,
    fences,
    parsed,
    request_of,
    tool_results,
)
from app.demo.studio.reports import entries_in, write_report
from app.demo.studio.verdicts import write_judgment, write_judgments, write_review
from app.demo.studio.vocabulary import PROSE_NAMES, Draft
from app.demo.studio.works import MAX_CALLS, excerpt_of, thinking, wanted_calls, write_work
from app.kit.json_values import JsonObject
from app.services.llm.calls import CallMetadata
from app.services.prompts.formats import SCHEMA, TEXT

MAX_OPENING_CHARACTERS = 400


@dataclass(frozen=True)
class DemoToolCall:
    """A tool call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class DemoAnswer:
    """One turn of the model: its text and its tool calls."""

    text: str
    tool_calls: tuple[DemoToolCall, ...] = ()


def answer(
    *,
    purpose: str,
    messages: list[JsonObject],
    tools: list[JsonObject],
    schema: JsonObject | None,
    metadata: CallMetadata | None = None,
) -> DemoAnswer:
    """Answer messages in OpenAI's form. The same input always gives the same answer, and no input raises an error.

    `purpose` is a `RunPurpose`; any other value counts as `work`. `schema` is the JSON schema of a structured answer.
    """
    objects = [as_object(message) for message in messages]
    chat = Conversation(objects, metadata) if metadata else Conversation(objects)
    if purpose in ("plan", "judge", "review"):
        return DemoAnswer(as_json(decision(purpose, chat, schema)))
    if purpose == "format":
        return DemoAnswer(as_json(data_of(chat, schema if schema is not None else schema_in(chat))))
    if schema is not None:
        return DemoAnswer(as_json(built(chat, schema)))
    if purpose in ("report", "orchestrate"):
        return report(chat, tools)
    return work(chat, tools)


def decision(purpose: str, chat: Conversation, schema: JsonObject | None) -> JsonObject:
    """Return the data of a plan, judgment or review, or data built from the schema if it asks for other fields."""
    match purpose:
        case "plan":
            value = write_plan(chat, schema)
        case "judge":
            batch = ids_allowed(schema, "verdicts")
            value = write_judgments(chat, batch) if batch else write_judgment(chat)
        case _:
            value = write_review(chat)
    if all(name in value for name in as_list(as_object(schema).get("required"))):
        return value
    return as_object(built(chat, schema))


def built(chat: Conversation, schema: JsonObject | None) -> object:
    """Return a value that matches an unknown schema."""
    root = as_object(schema)
    return Builder(root, Draft(read_premise(request_of(chat)))).value(root)


def data_of(chat: Conversation, schema: JsonObject) -> object:
    """Return the data of a finished text, as far as its first words tell what it is about."""
    texts = [fence.text for ask in asks(chat) for fence in fences(ask) if fence.label == TEXT]
    text = texts[0] if texts else ""
    opening = next((line for line in text.split("\n") if line.strip() and not line.startswith(("#", "|"))), text)
    premise = read_premise(opening[:MAX_OPENING_CHARACTERS])
    return Builder(schema, Draft(premise, text=text)).value(schema)


def schema_in(chat: Conversation) -> JsonObject:
    """Return the JSON schema in the prompt of a formatting call."""
    found = [fence.text for ask in asks(chat) for fence in fences(ask) if fence.label == SCHEMA]
    return as_object(parsed(found[0])) if found else {}


def work(chat: Conversation, tools: list[JsonObject]) -> DemoAnswer:
    """Return a specialist's turn: tool calls if tools are offered and none has been called, then the complete work."""
    if tools and not chat.metadata.is_last_step and not tool_results(chat):
        is_revision = chat.revision_notes is not None
        premise = read_premise(request_of(chat))
        draft = Draft(premise, revised=is_revision, text=excerpt_of(chat, premise, revised=is_revision))
        calls = wanted_calls(tools, draft, turn=len(chat.messages), most=1 if is_revision else MAX_CALLS)
        if calls:
            return with_calls(thinking(chat, [name for _, name, _ in calls]), calls)
    return DemoAnswer(write_work(chat))


def report(chat: Conversation, tools: list[JsonObject]) -> DemoAnswer:
    """Return a head's turn: a tool call on the draft if tools are offered and none was called yet, then the report."""
    text = write_report(chat)
    if tools and not chat.metadata.is_last_step and not tool_results(chat):
        draft = Draft(read_premise(request_of(chat)), text=text)
        calls = wanted_calls(sorted(tools, key=reads_no_prose), draft, turn=len(chat.messages), most=1)
        if calls:
            parts = len(entries_in(chat))
            status = f"All {parts} parts are in and the report is drafted." if parts > 1 else "The report is drafted."
            return with_calls(f"{status} I will run {calls[0][1]} on it before I put my name to it.", calls)
    return DemoAnswer(text)


def reads_no_prose(tool: JsonObject) -> bool:
    """Return whether a tool takes no prose, so that it cannot check a report."""
    parameters = as_object(as_object(as_object(tool).get("function")).get("parameters"))
    return not any(name in PROSE_NAMES for name in as_object(parameters.get("properties")))


def with_calls(text: str, calls: list[tuple[str, str, str]]) -> DemoAnswer:
    """Return a turn with tool calls."""
    return DemoAnswer(text, tuple(DemoToolCall(id_, name, arguments) for id_, name, arguments in calls))


def as_json(value: object) -> str:
    """Return a value as JSON text."""
    return json.dumps(value, ensure_ascii=False)

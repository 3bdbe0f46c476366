"""Keeping requests within a model's context: what is left out, in what order, and that what is left is valid."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kit.json_values import JsonObject
from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.context.mark import ContextMark
from app.services.llm.context.omission import shortened_bytes, shortened_fences
from app.services.llm.context.token_estimate import TokenEstimate, estimated_tokens
from app.services.llm.context.window import ContextRules, ContextWindow
from app.services.llm.failures.errors import ModelContextExceeded
from app.services.prompts.fences import fenced

SYSTEM: JsonObject = {"role": "system", "content": "You are Ada. Stay brief."}


def user(text: str) -> JsonObject:
    return {"role": "user", "content": text}


def step(number: int, *results: str) -> list[JsonObject]:
    """A turn that calls a tool once for each result."""
    ids = [f"call_{number}_{place}" for place in range(len(results))]
    calls = [{"id": one, "type": "function", "function": {"name": "read", "arguments": "{}"}} for one in ids]
    answers = zip(ids, results, strict=True)
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": one, "name": "read", "content": text} for one, text in answers),
    ]


def answer(text: str) -> JsonObject:
    return {"role": "assistant", "content": text}


def asked(*messages: JsonObject, task: int | None = None, **fields: Any) -> ModelRequest:  # noqa: ANN401 - any field
    return ModelRequest("m", [*messages], fields.pop("purpose", RunPurpose.WORK), "exec_1", task=task, **fields)


def window(context: int | None = 4_000, reserve: int = 500, result_bytes: int = 8_192) -> ContextWindow:
    return ContextWindow(ContextRules(result_bytes, reserve, lambda _: context))


def tokens_of(request: ModelRequest) -> int:
    return sum(map(TokenEstimate().of_message, request.messages))


def assert_valid(messages: list[JsonObject]) -> None:
    """The order that every provider takes."""
    assert [one["role"] for one in messages[:2]] == ["system", "user"]
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
            continue
        assert not open_calls
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    assert not open_calls


def test_a_long_tool_result_keeps_its_head_its_tail_and_says_how_to_read_the_rest() -> None:
    text = f"HEAD{'é' * 40_000}TAIL"

    fitted = window(None).fit(asked(SYSTEM, user("Do it."), *step(1, text, "short"), task=1))

    sent = fitted.request.messages[3]["content"]
    assert len(sent.encode()) <= 8_192
    assert sent.startswith("HEAD")
    assert sent.endswith("TAIL")
    assert "of 80008 bytes left out" in sent
    assert "call the tool again" in sent
    assert fitted.request.messages[4]["content"] == "short"
    assert fitted.omitted == {"toolResults": 1}


def test_a_request_that_fits_is_sent_unchanged() -> None:
    request = asked(SYSTEM, user("Do it."), *step(1, "one"), task=1)

    fitted = window().fit(request)

    assert (fitted.request, fitted.omitted) == (request, None)


def test_the_oldest_turns_of_the_conversation_go_first_then_those_of_the_task() -> None:
    old = [user("Old task."), *step(1, "x " * 800), *step(2, "x " * 800), answer("Old answer.")]
    new = [message for number in range(3, 9) for message in step(number, "y " * 1_200)]
    request = asked(SYSTEM, *old, user("New task."), *new, task=1 + len(old))

    fitted = window().fit(request)

    sent = fitted.request.messages
    assert_valid(sent)
    assert sent[0]["content"].startswith("You are Ada. Stay brief.")
    assert "left out" in sent[0]["content"]
    assert user("Old task.") not in sent
    assert user("New task.") in sent
    assert sent[-2:] == new[-2:]
    assert tokens_of(fitted.request) <= 3_500
    assert fitted.omitted is not None
    assert fitted.omitted["turns"] == (fitted.omitted["messages"] + 0 - 1) // 2 + (fitted.omitted["messages"] - 1) % 2
    assert fitted.omitted["contextTokens"] == 4_000


texts = st.sampled_from(["ok", "a b c " * 50, "0123456789" * 200, "x" * 20_000, "漢字かな" * 300])
steps = st.lists(st.lists(texts, min_size=1, max_size=3), max_size=6)


@pytest.mark.slow
@given(history=st.lists(steps, max_size=4), own=steps, revision=st.booleans(), context=st.integers(2_500, 40_000))
@settings(max_examples=60, deadline=None)
def test_a_shortened_conversation_is_valid_and_fits_the_window(
    history: list[list[list[str]]], own: list[list[str]], revision: bool, context: int
) -> None:
    number = 0
    messages = [SYSTEM]
    for exchange in history:
        messages.append(user("Earlier task."))
        for results in exchange:
            number += 1
            messages += step(number, *results)
        messages.append(answer("Earlier answer."))
    task = len(messages)
    messages.append(user("The task."))
    for results in own:
        number += 1
        messages += step(number, *results)
    if revision:
        messages += [answer("A draft."), user("Revise it.")]
    request = asked(*messages, task=task)

    fitted = window(context, 300).fit(request)

    sent = fitted.request.messages
    assert_valid(sent)
    assert user("The task.") in sent
    assert sent[-1]["role"] == messages[-1]["role"]
    assert not revision or sent[-2:] == messages[-2:]
    assert tokens_of(fitted.request) <= context - 300
    assert window(context, 300).fit(request) == fitted


def test_turns_that_were_left_out_stay_out_and_the_providers_count_corrects_the_estimate() -> None:
    messages = [SYSTEM, user("Do it."), *(one for number in range(10) for one in step(number, "word " * 1_000))]
    first = window(6_000).fit(asked(*messages, task=1))
    assert first.omitted is not None
    left_out = first.omitted["turns"]
    true_tokens = int(tokens_of(first.request) * 2)
    event = {"omitted": {"turns": left_out}, "usage": {"input": true_tokens}}

    more = [*messages, *step(11, "word")]
    mark = ContextMark.after(event, len(messages))
    second = window(6_000).fit(asked(*more, task=1, mark=mark))

    assert second.omitted is not None
    assert second.omitted["turns"] > left_out
    assert tokens_of(second.request) * 2 <= 5_500
    content = window(200_000).fit(asked(*more, task=1, mark=mark))
    assert content.omitted == {"turns": left_out, "messages": left_out * 2, "contextTokens": 200_000}


def test_a_last_turn_that_is_too_long_alone_is_shortened_further() -> None:
    arguments = json.dumps({"path": "a.txt", "text": "line \n" * 4_000})
    last = step(1, *["z " * 4_000] * 8)
    last[0]["tool_calls"][0]["function"]["arguments"] = arguments
    request = asked(SYSTEM, user("Do it."), *last, task=1)

    fitted = window(6_000).fit(request)

    sent = fitted.request.messages
    assert_valid(sent)
    assert len(sent) == len(request.messages)
    assert tokens_of(fitted.request) <= 5_500
    assert json.loads(sent[2]["tool_calls"][0]["function"]["arguments"])["path"] == "a.txt"
    assert fitted.omitted is not None
    assert fitted.omitted["toolResultBytes"] < 8_192


def test_the_material_of_a_heads_prompt_is_shortened_and_its_request_is_not() -> None:
    wanted = "The client's words. " * 40
    works = "\n\n".join(fenced(f"WORK OF a{place}", "work " * 4_000) for place in range(8))
    request = asked(SYSTEM, user(f"Write a report on:\n{fenced('REQUEST', wanted)}\n\n{works}\n\nBegin."))

    fitted = window(8_000).fit(request)

    sent = fitted.request.messages[1]["content"]
    assert fenced("REQUEST", wanted) in sent
    assert sent.count("<<<WORK OF") == sent.count("<<<END WORK OF") == 8
    assert sent.endswith("Begin.")
    assert tokens_of(fitted.request) <= 7_500


def test_instructions_and_a_task_that_are_too_long_alone_are_not_sent() -> None:
    request = asked(SYSTEM, user("word " * 30_000), task=1)

    with pytest.raises(ModelContextExceeded, match="larger context"):
        window(8_000).fit(request)


@pytest.mark.parametrize(("limit", "sent"), [(3_000, 9_000), (3_000, None), (None, None)])
def test_an_overflow_that_the_provider_reports_is_met_by_leaving_out_more(limit: int | None, sent: int | None) -> None:
    messages = [SYSTEM, user("Do it."), *(one for number in range(10) for one in step(number, "word " * 500))]
    request = asked(*messages, task=1)
    unknown = window(None)
    fitted = unknown.fit(request)
    error = ModelContextExceeded("Too long.")
    error.limit_tokens, error.sent_tokens = limit, sent

    smaller = unknown.shrink(request, fitted, error)

    assert fitted.omitted is None
    assert smaller.omitted is not None
    assert smaller.omitted["turns"] > 0
    assert tokens_of(smaller.request) < tokens_of(fitted.request) * 0.75
    assert_valid(smaller.request.messages)
    later = asked(*messages, *step(11, "word"), task=1, mark=ContextMark.after({"omitted": smaller.omitted}, 22))
    assert tokens_of(window(None).fit(later).request) <= tokens_of(fitted.request) * 0.75


def test_a_request_that_cannot_be_shortened_still_overflows() -> None:
    request = asked(SYSTEM, user("Do it."), task=1)
    unknown = window(None)

    with pytest.raises(ModelContextExceeded, match=r"^Too long\.$"):
        unknown.shrink(request, unknown.fit(request), ModelContextExceeded("Too long."))


def test_a_text_that_is_cut_in_a_character_stays_readable() -> None:
    assert "\ufffd" not in shortened_bytes("€" * 5_000, 1_000)


def test_estimates_take_little_time_and_no_text_is_counted_twice() -> None:
    text = "The quick brown fox. " * 60_000
    window_of_all = window(10_000_000, result_bytes=2_000_000)
    request = asked(SYSTEM, user("Do it."), *step(1, text), task=1)

    began = time.process_time()
    window_of_all.fit(request)
    first = time.process_time() - began
    began = time.process_time()
    for _ in range(20):
        window_of_all.fit(request)
    later = time.process_time() - began

    assert later < max(first * 10, 0.05)
    assert 0.15 * len(text) < estimated_tokens(text) < 0.4 * len(text)


def test_a_prompt_full_of_lines_that_look_like_fences_is_shortened_in_little_time() -> None:
    text = "<<<NOTES 00000000>>>\n" * 5_000
    started = time.thread_time()

    assert shortened_fences(text, 512, requests_too=False) == text
    assert time.thread_time() - started < 0.5


def test_of_nested_fences_the_outermost_is_shortened() -> None:
    inner = fenced("NOTES", "x" * 2_000)
    text = f"Read this:\n{fenced('OUTPUT OF a', f'{inner} and {inner}')}\nThen answer."

    short = shortened_fences(text, 600, requests_too=False)

    opening, *_, closing = [line for line in short.splitlines() if "OUTPUT OF a" in line]
    assert opening.startswith("<<<OUTPUT OF a ")
    assert closing == f"<<<END {opening[3:]}"
    assert short.startswith("Read this:\n")
    assert short.endswith("\nThen answer.")
    assert len(short) < 900

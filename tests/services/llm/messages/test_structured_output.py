"""Asking a model for data: the schema goes out, the answer is checked, and repaired once."""

import json
import time
from typing import Any

import pytest

from app.kit.json_values import JsonObject
from app.services.llm.failures.errors import ModelRateLimited
from app.services.llm.messages.structured_output import AnswerSchema, ask_structured, parse_object
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}, "why": {"type": "string"}},
    "required": ["count", "why"],
    "additionalProperties": False,
}
ANSWER = AnswerSchema("a_count", SCHEMA)
GOOD = '{"count": 3, "why": "I counted."}'
UNPARSED, TOO_DEEP = "not valid JSON", "nested too deeply"
"""The complaints about a deep object, which Python's parser refuses before version 3.12."""


def one_after_the_other(server: ModelServer, *replies: Reply) -> None:
    """Answer the first call with the first reply, the next with the next."""
    server.on("work", lambda _: replies[len(server.calls) - 1])


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here it is:\n{GOOD}\nI hope it helps.",
        f"I put {{it}} in braces: {GOOD} Is {{that}} right?",
        f'<think>Perhaps {{"count": 9, "why": "A guess."}}, or more.</think>\n{GOOD}',
        f'Perhaps {{"count": 9, "why": "A guess."}}. No.\n</think>\n\n{GOOD}',
        f'A first try: {{"count": 0, "why": "x"}}. Corrected: {GOOD}',
    ],
)
async def test_a_matching_answer_is_taken_at_once_also_with_words_around_it(
    open_gateway: OpenGateway, model_server: ModelServer, text: str
) -> None:
    one_after_the_other(model_server, text)

    answer = await ask_structured(open_gateway(entry(model_server)), request(), ANSWER)

    assert (answer.valid, answer.value, answer.problems) == (True, {"count": 3, "why": "I counted."}, [])
    assert answer.usage.as_json()["total"] == 15
    sent = model_server.calls[0].body["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "a_count", "strict": True, "schema": SCHEMA}}
    assert len(model_server.calls) == 1


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("I would say three.", "not a JSON object"),
        ("{count: 3}", "not valid JSON"),
        ('{"count": 0, "why": "x"}', "count: 0 is less than the minimum of 1"),
        ('{"count": 3}', '"why" is a required property'),
        ('{"count": 3, "why": "x", "more": 1}', "more"),
        ('{"count": NaN, "why": "x"}', "count: null is not of type"),
        ('{"a":' * 5000 + "1" + "}" * 5000, TOO_DEEP),
    ],
)
async def test_an_answer_that_does_not_match_is_requested_again_with_its_problems(
    open_gateway: OpenGateway, model_server: ModelServer, text: str, reported: str
) -> None:
    one_after_the_other(model_server, text, GOOD)
    gateway = open_gateway(entry(model_server, input_cost_per_token=1, output_cost_per_token=1))

    answer = await ask_structured(gateway, request(), ANSWER)

    assert (answer.valid, answer.value) == (True, {"count": 3, "why": "I counted."})
    assert (answer.usage.as_json()["total"], answer.cost_usd) == (30, 30)
    question, said, complaint = model_server.calls[1].messages
    assert question["content"] == "Say something."
    assert (said["role"], said["content"]) == ("assistant", text)
    assert reported in complaint["content"] or (reported == TOO_DEEP and UNPARSED in complaint["content"])
    assert model_server.calls[1].body["response_format"] == model_server.calls[0].body["response_format"]


async def test_an_answer_among_the_thoughts_alone_is_taken(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    thought = completion("")
    thought["choices"][0]["message"]["reasoning_content"] = GOOD
    one_after_the_other(model_server, thought)

    answer = await ask_structured(open_gateway(entry(model_server)), request(), ANSWER)

    assert (answer.valid, answer.value) == (True, {"count": 3, "why": "I counted."})


@pytest.mark.parametrize("text", ['{"count": 3, "why": "I cou', GOOD])
async def test_a_truncated_answer_is_requested_again_without_a_limit(
    open_gateway: OpenGateway, model_server: ModelServer, text: str
) -> None:
    one_after_the_other(model_server, completion(text, finish_reason="length"), GOOD)

    answer = await ask_structured(open_gateway(entry(model_server)), request(max_tokens=50), ANSWER)

    assert (answer.valid, answer.value) == (True, {"count": 3, "why": "I counted."})
    assert answer.usage.as_json()["total"] == 30
    assert [call.body.get("max_tokens") for call in model_server.calls] == [50, None]
    assert "cut off" in model_server.calls[1].messages[-1]["content"]


async def test_an_answer_that_is_cut_twice_is_not_valid(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    model_server.on("work", completion(GOOD, finish_reason="length"))

    answer = await ask_structured(open_gateway(entry(model_server)), request(), ANSWER)

    assert not answer.valid
    assert len(model_server.calls) == 2


async def test_an_empty_repair_is_paid_for_too(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    one_after_the_other(model_server, "No.", completion(""))
    gateway = open_gateway(entry(model_server, input_cost_per_token=1, output_cost_per_token=1))

    answer = await ask_structured(gateway, request(), ANSWER)

    assert (answer.valid, answer.usage.as_json()["total"], answer.cost_usd) == (False, 30, 30)


async def test_after_a_second_wrong_answer_the_last_object_is_kept_as_invalid(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    one_after_the_other(model_server, '{"count": 0, "why": "x"}', "I give up.")

    answer = await ask_structured(open_gateway(entry(model_server)), request(), ANSWER)

    assert (answer.valid, answer.value) == (False, {"count": 0, "why": "x"})
    assert answer.problems
    assert answer.cost_usd is None
    assert len(model_server.calls) == 2


async def test_a_first_call_that_fails_is_the_question_s_failure(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    one_after_the_other(model_server, fault(429))

    with pytest.raises(ModelRateLimited):
        await ask_structured(open_gateway(entry(model_server)), request(), ANSWER)


async def test_if_the_repair_fails_the_first_answer_is_returned_as_invalid_and_its_tokens_count(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    one_after_the_other(model_server, '{"count": 0, "why": "x"}', fault(429))
    gateway = open_gateway(entry(model_server, input_cost_per_token=1, output_cost_per_token=1))

    answer = await ask_structured(gateway, request(), ANSWER)

    assert (answer.valid, answer.value) == (False, {"count": 0, "why": "x"})
    assert (answer.usage.as_json()["total"], answer.cost_usd) == (15, 15)
    assert answer.problems[-1].startswith("repair: ")


async def test_a_long_list_of_faults_is_cut_in_the_repair(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    many: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
    schema = AnswerSchema("numbers", {"type": "object", "properties": {"n": many}, "required": ["n"]})
    seen: list[Call] = []

    def script(call: Call) -> Reply:
        seen.append(call)
        return f'{{"n": {["x"] * 50}}}'.replace("'", '"')

    model_server.on("work", script)

    answer = await ask_structured(open_gateway(entry(model_server)), request(), schema)

    assert len(answer.problems) == 50
    assert seen[1].messages[-1]["content"].count("\n- ") == 8


def test_a_large_invalid_answer_is_reported_quickly_by_its_first_fault() -> None:
    numbers = {"type": "array", "items": {"type": "number"}}
    schema = AnswerSchema("numbers", {"type": "object", "properties": {"n": numbers}, "required": ["n"]})
    text = json.dumps({"n": ["x" * 20] * 50_000})
    started = time.thread_time()

    _, problems = parse_object(text, schema)

    assert len(problems) == 1
    assert time.thread_time() - started < 0.5


def test_a_fault_is_quoted_at_a_bounded_length() -> None:
    schema = AnswerSchema(
        "note", {"type": "object", "properties": {"note": {"type": "integer"}}, "required": ["a", "b"]}
    )

    _, problems = parse_object(json.dumps({"note": "x" * 100_000}), schema)

    assert len(problems) == 3
    assert max(map(len, problems)) <= 300

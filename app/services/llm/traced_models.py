"""Model calls as spans, one for each call of the gateway; answers from the response cache are not calls."""

from dataclasses import dataclass

import orjson

from app.kit.json_values import JsonObject
from app.services.llm.calls import Completion, ModelCall, ModelCaller, ModelRequest, sum_of
from app.services.llm.failures.errors import ModelCallFailed
from app.telemetry import gen_ai
from app.telemetry.tracing import Attributes, Span, TreeTrace

MAX_PART_CHARACTERS = 16_384
"""The maximum number of characters of a message in a span."""


@dataclass(frozen=True)
class TracedModels:
    """Records each call as a span `chat {model}` below the execution that it serves."""

    following: ModelCaller
    trace: TreeTrace
    conversation_id: str | None = None

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            ModelCallFailed: the call failed.
        """
        name = f"{gen_ai.CHAT} {request.model}"
        with self.trace.span(request.execution_id, name, self._asked(request), is_client=True) as span:
            try:
                completion = await self.following.complete(request)
            except ModelCallFailed as error:
                span.set(answered(error.calls))
                raise
            span.set(answered(completion.calls))
            self._note_answer(span, completion)
            return completion

    def _asked(self, request: ModelRequest) -> Attributes:
        facts = {
            gen_ai.OPERATION: gen_ai.CHAT,
            gen_ai.REQUEST_MODEL: request.model,
            gen_ai.EXECUTION_ID: request.execution_id,
            gen_ai.PURPOSE: request.purpose.value,
            gen_ai.CONVERSATION_ID: self.conversation_id,
            gen_ai.AGENT_ID: request.scope.agent,
            gen_ai.REQUEST_TEMPERATURE: request.temperature,
            gen_ai.REQUEST_MAX_TOKENS: request.max_tokens,
            gen_ai.REQUEST_STREAM: True if request.on_delta else None,
            gen_ai.OUTPUT_TYPE: "json" if request.response_format else None,
            gen_ai.INPUT_MESSAGES: messages_text(request.messages) if self.trace.captures_content else None,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _note_answer(self, span: Span, completion: Completion) -> None:
        reason = completion.finish_reason or ("tool_calls" if completion.tool_calls else "stop")
        span.set({gen_ai.FINISH_REASONS: [reason], gen_ai.RESPONSE_MODEL: completion.model})
        if self.trace.captures_content:
            calls = [
                {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
                for call in completion.tool_calls
            ]
            answer = {"role": "assistant", "content": completion.text, "tool_calls": calls}
            span.set({gen_ai.OUTPUT_MESSAGES: messages_text([answer])})


def answered(calls: tuple[ModelCall, ...]) -> Attributes:
    """Return the attributes of a call's attempts: their tokens and cost, and the last one's provider."""
    if not calls:
        return {}
    last = calls[-1]
    usage, cost = sum_of(calls)
    facts = {
        gen_ai.PROVIDER: gen_ai.provider_of(last.deployment),
        gen_ai.ATTEMPTS: len(calls),
        gen_ai.INPUT_TOKENS: usage.input,
        gen_ai.OUTPUT_TOKENS: usage.output,
        gen_ai.CACHE_READ_TOKENS: usage.cache_read or None,
        gen_ai.CACHE_WRITE_TOKENS: usage.cache_write or None,
        gen_ai.REASONING_TOKENS: sum(call.reasoning_tokens for call in calls) or None,
        gen_ai.COST: cost,
    }
    return {name: value for name, value in facts.items() if value is not None}


def messages_text(messages: list[JsonObject]) -> str:
    """Return chat messages as JSON in the form of the conventions: a role, and parts of text and tool calls."""
    return orjson.dumps([{"role": message["role"], "parts": parts_of(message)} for message in messages]).decode()


def parts_of(message: JsonObject) -> list[JsonObject]:
    """Return the parts of a message, each cut to the size that a span may hold."""
    content = message.get("content")
    text = (
        content if isinstance(content, str) else "" if content is None else orjson.dumps(content, default=str).decode()
    )
    if message["role"] == "tool":
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "result": text[:MAX_PART_CHARACTERS]}]
    parts: list[JsonObject] = [{"type": "text", "content": text[:MAX_PART_CHARACTERS]}] if text else []
    for call in message.get("tool_calls") or ():
        asked = call["function"]
        arguments = str(asked["arguments"])[:MAX_PART_CHARACTERS]
        parts.append({"type": "tool_call", "id": call.get("id"), "name": asked["name"], "arguments": arguments})
    return parts

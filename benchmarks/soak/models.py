"""The model server of the soak: every answer is its own, so that what was saved tells which call gave it."""

import asyncio
import hashlib
import itertools
import json
import random
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SCORES = dict.fromkeys(("confidence", "completeness", "relevance", "consistency", "creativity", "technical"), 0.9)


@dataclass
class ReceivedCall:
    """One model call: its sender and execution, a hash of its content, and its time of arrival.

    `mark` is part of the answer, and `None` if the answer was a fault.
    """

    sender: str
    execution_id: str
    content: str
    at: float
    mark: str | None = None


@dataclass
class ModelLog:
    """The received calls in order of arrival; each process sends its own name as its key."""

    calls: list[ReceivedCall] = field(default_factory=list[ReceivedCall])
    faults: int = 0
    _marks: Any = field(default_factory=lambda: itertools.count(1))

    async def answer(self, request: web.Request) -> web.Response:
        """Return a completion after a short delay, or occasionally a fault."""
        at = asyncio.get_running_loop().time()
        body = await request.json()
        content = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        sender = request.headers.get("Authorization", "").removeprefix("Bearer ")
        call = ReceivedCall(sender, request.headers.get("X-Execution-Id", ""), content, at)
        self.calls.append(call)
        await asyncio.sleep(random.uniform(0.02, 0.4))  # noqa: S311 - a model's latency
        chance = random.random()  # noqa: S311 - the same
        if chance < 0.02:
            self.faults += 1
            return web.json_response({"error": {"message": "soak"}}, status=429, headers={"Retry-After": "1"})
        if chance < 0.04:
            self.faults += 1
            return web.json_response({"error": {"message": "soak"}}, status=500)
        call.mark = f"mark-{next(self._marks)}"
        return web.json_response(completion(message_for(request.headers.get("X-Run-Purpose", ""), body, call.mark)))


def message_for(purpose: str, body: dict[str, Any], mark: str) -> dict[str, Any]:
    """Build the model's message: first a call of every tool, then a text, or data if the call asks for it."""
    if purpose == "plan":
        schema = body["response_format"]["json_schema"]["schema"]
        agents = schema["properties"]["assignments"]["items"]["properties"]["agentId"]["enum"]
        rows = [{"agentId": one, "instructions": "Do it.", "dependsOn": []} for one in agents]
        return {"content": json.dumps({"assignments": rows, "rationale": mark})}
    if purpose == "judge":
        return {"content": json.dumps({**SCORES, "reasoning": mark})}
    if purpose == "review":
        return {"content": json.dumps({"decision": "approved", "notes": mark})}
    if body.get("tools") and not any(message["role"] == "tool" for message in body["messages"]):
        return {"content": mark, "tool_calls": [tool_call(tool["function"]["name"], mark) for tool in body["tools"]]}
    return {"content": f"Done: {mark}."}


def tool_call(name: str, mark: str) -> dict[str, Any]:
    """A call of a tool."""
    function = {"name": name, "arguments": json.dumps({"text": mark})}
    return {"id": f"call_{name}_{mark}", "type": "function", "function": function}


def completion(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a chat completion."""
    reason = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": "chatcmpl-soak",
        "object": "chat.completion",
        "created": 1,
        "model": "soak",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }

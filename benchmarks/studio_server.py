"""A model server for whole departments: answers each kind of call after a while that stands in its path.

`/200/v1/chat/completions` answers after 200 ms. It counts four characters as a token, and what it writes is as long as
the real thing. Run as `python -m benchmarks.studio_server` with `PORT` set.
"""

import asyncio
import os

import orjson
import uvloop
from aiohttp import web

from app.kit.json_values import JsonObject

DIMENSIONS = ("confidence", "completeness", "relevance", "consistency", "creativity", "technical")
WORK = "The keeper winds the light, counts the hours, and writes down what the sea has answered. " * 20
REPORT = f"## Summary\nThe department has finished.\n\n## Result\n{WORK}\n\n## Next steps\nShoot it."
VERDICT: JsonObject = {
    **dict.fromkeys(DIMENSIONS, 0.9),
    "reasoning": "It covers its ground, stays close to the request and argues with figures. One section stays thin.",
}


def answer_of(purpose: str, schema: JsonObject) -> str:
    """Return a model's answer to a call with this purpose."""
    properties = schema.get("properties", {})
    match purpose:
        case "plan":
            agents = properties["assignments"]["items"]["properties"]["agentId"]["enum"]
            rows = [{"agentId": agent, "instructions": "Do your part of it.", "dependsOn": []} for agent in agents]
            return orjson.dumps({"assignments": rows, "rationale": "All at once."}).decode()
        case "judge" if "verdicts" in properties:
            agents = properties["verdicts"]["items"]["properties"]["agentId"]["enum"]
            return orjson.dumps({"verdicts": [{"agentId": agent, **VERDICT} for agent in agents]}).decode()
        case "judge":
            return orjson.dumps(VERDICT).decode()
        case "review":
            return orjson.dumps({"decision": "approved", "notes": "It can go into the report."}).decode()
        case "report":
            return REPORT
        case _:
            return WORK


async def complete(request: web.Request) -> web.Response:
    """One completion."""
    body: JsonObject = orjson.loads(await request.read())
    await asyncio.sleep(int(request.match_info["delay"]) / 1000)
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema") or {}
    text = answer_of(request.headers.get("X-Run-Purpose", "work"), schema)
    asked = sum(len(str(message.get("content") or "")) for message in body["messages"])
    usage = {"prompt_tokens": asked // 4, "completion_tokens": len(text) // 4, "total_tokens": (asked + len(text)) // 4}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    content = {"id": "c", "object": "chat.completion", "created": 1, "model": "studio", "choices": [choice]}
    return web.Response(body=orjson.dumps(content | {"usage": usage}), content_type="application/json")


async def is_up(_: web.Request) -> web.Response:
    """The server answers."""
    return web.Response(text="up")


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.add_routes([web.get("/", is_up), web.post("/{delay}/v1/chat/completions", complete)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(os.environ["PORT"])))

"""A model server that counts tokens and keeps prompt caches like Anthropic (`/anthropic`) and OpenAI (`/openai`).

It answers like a department at work: every specialist calls its tools, writes, and is sent back once in each
department. Four characters are a token. An answer takes as long as its text does, and the same request always has the
same answer. `GET /totals` gives the sums since `POST /reset`, which forgets the caches too.
Run as `python -m benchmarks.economy_server` with `PORT` set.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
import uvloop
import yaml
from aiohttp import web

from app.kit.json_values import JsonObject
from app.services.catalog.seeds.files import SEEDS

TOKEN_CHARACTERS = 4
LEAST_CACHED_TOKENS = 1024
LEAST_CACHED_BY_MODEL = {"claude-haiku-4-5": 4096}
"""The shortest beginnings that the providers keep."""
STEP_TOKENS = 128
"""OpenAI recognizes beginnings in steps of so many tokens."""
LOOKBACK_BLOCKS = 20
"""The number of blocks before a marker at which Anthropic looks for something kept."""
SECONDS_A_TOKEN = 0.0001
DIMENSIONS = ("confidence", "completeness", "relevance", "consistency", "creativity", "technical")
SENTENCE = "The keeper winds the light, counts the hours, and writes down what the sea has answered in the night. "
WORK_CHARACTERS, LONG_WORK_CHARACTERS, REPORT_CHARACTERS = 4_800, 12_000, 6_000
LONG_WORKERS = re.compile(r"\((?:plot|psychology|cinematographer|editor|dialogue-editor|first-assistant)[\w-]*\)")
"""Specialists whose work is long: one in each department."""
DRAFT = re.compile(r"[Dd]raft (\d+) by [^(]*\((?P<agent>[\w-]+)\)")
REVISED = re.compile(r"theme|arc|costume|colorist|composer|line-producer")
"""Specialists whose first draft is sent back: one in each department."""
EXAMPLES: dict[str, JsonObject] = {}


@dataclass
class Totals:
    """The sums of all answers; `written` and `read` are parts of the input."""

    calls: int = 0
    input: int = 0
    written: int = 0
    read: int = 0
    output: int = 0
    by_purpose: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class PromptCaches:
    """The beginnings that each model keeps, by their hashes."""

    kept: set[str] = field(default_factory=set[str])

    def marked(self, model: str, blocks: list[tuple[str, bool]]) -> tuple[int, int]:
        """The tokens read and written of a request's blocks, each with whether it has a marker."""
        hashes, sizes = prefixes(model, [text for text, _ in blocks])
        least = LEAST_CACHED_BY_MODEL.get(model, LEAST_CACHED_TOKENS)
        marks = [place for place, (_, marked) in enumerate(blocks) if marked and sizes[place] >= least]
        if not marks:
            return 0, 0
        near = {place - back for place in marks for back in range(LOOKBACK_BLOCKS) if place >= back}
        read = max((sizes[place] for place in near if hashes[place] in self.kept), default=0)
        self.kept |= {hashes[place] for place in marks}
        return read, max(sizes[marks[-1]] - read, 0)

    def automatic(self, model: str, text: str) -> int:
        """The tokens of a request that are read because an earlier one began in the same way."""
        step = STEP_TOKENS * TOKEN_CHARACTERS
        parts = [text[start : start + step] for start in range(0, len(text) - step + 1, step)]
        hashes, sizes = prefixes(model, parts)
        known = [size for digest, size in zip(hashes, sizes, strict=True) if digest in self.kept]
        self.kept.update(hashes)
        read = max(known, default=0)
        return read if read >= LEAST_CACHED_TOKENS else 0


TOTALS = Totals()
CACHES = PromptCaches()


def tokens_in(text: str) -> int:
    """The tokens of a text."""
    return -(-len(text) // TOKEN_CHARACTERS)


def prefixes(model: str, parts: list[str]) -> tuple[list[str], list[int]]:
    """The hash and the tokens of each beginning that ends with a part."""
    digest = hashlib.sha256(model.encode())
    hashes: list[str] = []
    sizes: list[int] = []
    for part in parts:
        digest.update(part.encode())
        hashes.append(digest.hexdigest())
        sizes.append((sizes[-1] if sizes else 0) + tokens_in(part))
    return hashes, sizes


def plain(value: object) -> str:
    """A value as the model reads it: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def score_of(text: str) -> float:
    """A score between 0.85 and 0.95 that depends on the text alone."""
    return 0.85 + int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) % 11 / 100


def verdict(text: str) -> JsonObject:
    """A judgment of an output."""
    reasoning = "It covers its ground, stays close to the request and argues with figures. One section stays thin."
    return {**dict.fromkeys(DIMENSIONS, score_of(text)), "reasoning": reasoning}


def written(seed: str, size: int) -> str:
    """A text of a size that begins differently for each seed."""
    name = hashlib.sha256(seed.encode()).hexdigest()[:12]
    return f"## Part {name}\n{SENTENCE * (size // len(SENTENCE))}"


def planned(agents: list[str]) -> JsonObject:
    """A plan: the first two work at once, the third builds on the first, the fourth on the first two."""
    needed = [[], [], agents[:1], agents[:2]]
    rows = [
        {
            "agentId": agent,
            "instructions": f"Do the part of {agent}: name what the film needs, settle two options with their price, "
            "keep to the people and places of the request, and say what is missing.",
            "dependsOn": needed[min(place, 3)],
        }
        for place, agent in enumerate(agents)
    ]
    return {"assignments": rows, "rationale": "Structure first, then what stands on it."}


def structured(purpose: str, schema: JsonObject, asked: str) -> str:
    """The answer to a plan, a judgment or a review."""
    properties = schema.get("properties", {})
    if purpose == "plan":
        return plain(planned(properties["assignments"]["items"]["properties"]["agentId"]["enum"]))
    if purpose == "review":
        found = DRAFT.search(asked)
        is_first = found is not None and found[1] == "1" and REVISED.search(found["agent"]) is not None
        notes = "Name the scene in which it turns." if is_first else "Sound work; it can go into the report."
        return plain({"decision": "revision-needed" if is_first else "approved", "notes": notes})
    outputs = re.findall(r"<<<OUTPUT ([0-9a-f]{8})>>>\n(.*?)\n<<<END OUTPUT \1>>>", asked, re.S)
    texts = [text for _, text in outputs]
    if "verdicts" not in properties:
        return plain(verdict(texts[-1] if texts else ""))
    agents = properties["verdicts"]["items"]["properties"]["agentId"]["enum"]
    return plain({"verdicts": [{"agentId": agent, **verdict(text)} for agent, text in zip(agents, texts, strict=True)]})


@dataclass(frozen=True)
class Ask:
    """A request of either wire: `tools` are the names on offer, `called` those called since the user last spoke."""

    purpose: str
    model: str
    system: str
    asked: str
    tools: list[str]
    called: list[str]
    schema: JsonObject | None


def answer_of(ask: Ask) -> tuple[str, str | None]:
    """The text of an answer, and the tool that it calls instead, if any."""
    if ask.schema is not None:
        return structured(ask.purpose, ask.schema, ask.asked), None
    wanted = [name for name in ask.tools[: 1 if ask.purpose == "report" else 2] if name in EXAMPLES]
    if open_tools := [name for name in wanted if name not in ask.called]:
        return "", open_tools[0]
    size = REPORT_CHARACTERS if ask.purpose == "report" else WORK_CHARACTERS
    if ask.purpose == "work" and LONG_WORKERS.search(ask.system):
        size = LONG_WORK_CHARACTERS
    head = "## Summary\nThe department has finished.\n\n" if ask.purpose == "report" else ""
    return head + written(f"{ask.system}{request_in(ask.asked)}", size), None


def request_in(asked: str) -> str:
    """The client's request in a prompt: works depend on it, and not on how the prompt is laid out."""
    found = re.search(r"<<<REQUEST ([0-9a-f]{8})>>>\n(.*?)\n<<<END REQUEST \1>>>", asked, re.S)
    revision = "revision" if "asks for a revision" in asked else ""
    return (found[2] if found else asked) + revision


def count(ask: Ask, total: int, read: int, written_tokens: int, output: int) -> None:
    """Add an answer to the totals."""
    TOTALS.calls += 1
    TOTALS.input += total
    TOTALS.read += read
    TOTALS.written += written_tokens
    TOTALS.output += output
    TOTALS.by_purpose[ask.purpose] = TOTALS.by_purpose.get(ask.purpose, 0) + total + output


def anthropic_blocks(body: JsonObject) -> Iterator[tuple[str, bool]]:
    """A request's blocks in the order in which Anthropic keeps them, each with whether it has a marker."""
    for tool in [*(body.get("tools") or ()), *filter(None, [body.get("output_format"), body.get("output_config")])]:
        yield plain({name: value for name, value in tool.items() if name != "cache_control"}), "cache_control" in tool
    for block in body.get("system") or ():
        yield block["text"], "cache_control" in block
    for message in body["messages"]:
        content = message["content"]
        for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            said = block.get("text") or block.get("content") or block.get("input") or ""
            yield plain(said), "cache_control" in block


async def anthropic(request: web.Request) -> web.Response:
    """One message."""
    body: JsonObject = orjson.loads(await request.read())
    blocks = list(anthropic_blocks(body))
    turns: list[list[JsonObject]] = [
        one["content"] if isinstance(one["content"], list) else [{"type": "text", "text": one["content"]}]
        for one in body["messages"]
    ]
    formats = body.get("output_format") or (body.get("output_config") or {}).get("format") or {}
    users = [block["text"] for turn in turns for block in turn if block["type"] == "text"]
    spoke = max(place for place, turn in enumerate(turns) if turn[-1]["type"] == "text")
    ask = Ask(
        purpose=request.headers.get("X-Run-Purpose", "work"),
        model=body["model"],
        system="\n".join(block["text"] for block in body.get("system") or ()),
        asked="\n".join(users),
        tools=[tool["name"] for tool in body.get("tools") or ()],
        called=[block["name"] for turn in turns[spoke:] for block in turn if block["type"] == "tool_use"],
        schema=formats.get("schema"),
    )
    text, tool = answer_of(ask)
    given = EXAMPLES.get(tool or "", {})
    output = tokens_in(text or plain(given)) + 20 * bool(tool)
    await asyncio.sleep(output * SECONDS_A_TOKEN)
    read, kept = CACHES.marked(ask.model, blocks)
    total = sum(tokens_in(block) for block, _ in blocks)
    count(ask, total, read, kept, output)
    content = {"type": "tool_use", "id": f"toolu_{TOTALS.calls}", "name": tool, "input": given}
    usage = {
        "input_tokens": total - read - kept,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": kept,
        "output_tokens": output,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": ask.model, "usage": usage}
    message |= {"content": [content if tool else {"type": "text", "text": text}], "stop_sequence": None}
    return web.json_response({**message, "stop_reason": "tool_use" if tool else "end_turn"})


async def openai(request: web.Request) -> web.Response:
    """One chat completion; `/openai/plain` keeps no beginnings."""
    body: JsonObject = orjson.loads(await request.read())
    messages: list[JsonObject] = body["messages"]
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    spoke = max(place for place, message in enumerate(messages) if message["role"] == "user")
    calls = [call for message in messages[spoke:] for call in message.get("tool_calls") or ()]
    ask = Ask(
        purpose=request.headers.get("X-Run-Purpose", "work"),
        model=body["model"],
        system=messages[0]["content"],
        asked="\n".join(message["content"] for message in messages if message["role"] == "user"),
        tools=[tool["function"]["name"] for tool in body.get("tools") or ()],
        called=[call["function"]["name"] for call in calls],
        schema=schema,
    )
    text, tool = answer_of(ask)
    arguments = plain(EXAMPLES.get(tool or "", {}))
    output = tokens_in(text or arguments) + 20 * bool(tool)
    await asyncio.sleep(output * SECONDS_A_TOKEN)
    parts = [schema, body.get("tools"), *(one.get("content") or one.get("tool_calls") for one in messages)]
    told = "\n".join(plain(part) for part in parts if part)
    read = CACHES.automatic(ask.model, told) if request.match_info["kind"] == "cached" else 0
    count(ask, tokens_in(told), read, 0, output)
    call = {"id": f"call_{TOTALS.calls}", "type": "function", "function": {"name": tool, "arguments": arguments}}
    message = {"role": "assistant", "content": text or None, **({"tool_calls": [call]} if tool else {})}
    usage = {
        "prompt_tokens": tokens_in(told),
        "completion_tokens": output,
        "total_tokens": tokens_in(told) + output,
        "prompt_tokens_details": {"cached_tokens": read},
    }
    choice = {"index": 0, "finish_reason": "tool_calls" if tool else "stop", "message": message}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": ask.model, "choices": [choice]}
    return web.json_response(head | {"usage": usage})


async def totals(_: web.Request) -> web.Response:
    """The sums so far."""
    return web.json_response(vars(TOTALS))


async def reset(_: web.Request) -> web.Response:
    """Begin again, with empty caches."""
    TOTALS.__init__()
    CACHES.kept.clear()
    return web.Response(text="reset")


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    for path in SEEDS.glob("custom-tools/*/tool.yaml"):
        EXAMPLES[path.parent.name] = yaml.safe_load(path.read_text(encoding="utf-8"))["exampleInputs"][0]
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.add_routes(
        [
            web.get("/totals", totals),
            web.post("/reset", reset),
            web.post("/anthropic/v1/messages", anthropic),
            web.post("/openai/{kind}/v1/chat/completions", openai),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(os.environ["PORT"])))

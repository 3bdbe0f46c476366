"""The tools of the soak: a pure one, one with an effect, one that may have its effect again; and where effects happen.

The model gives each call the mark of its own answer, so that tool and mark say which call an effect is of.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PURE, EFFECTIVE, REPEATABLE = "soakCount", "soakEffect", "soakRepeatable"
EFFECTS_PATH = "/effects"

Effect = tuple[str, str]
"""The tool and the mark of its call."""


@dataclass
class EffectLog:
    """How often each call had its effect."""

    counts: Counter[Effect] = field(default_factory=Counter[Effect])

    async def answer(self, request: web.Request) -> web.Response:
        """One effect, and after a moment its answer: who is killed meanwhile never hears of it."""
        effect = await request.json()
        self.counts[effect["tool"], effect["mark"]] += 1
        await asyncio.sleep(random.uniform(0.02, 0.4))  # noqa: S311 - chaos, not secrecy
        return web.json_response({"done": effect["mark"]})


def tools(url: str) -> list[dict[str, Any]]:
    """All three, with their effects at a server."""
    return [
        tool(PURE, "(input) => ({ characters: input.text.length })"),
        tool(EFFECTIVE, fetching(EFFECTIVE, url)),
        {**tool(REPEATABLE, fetching(REPEATABLE, url)), "idempotent": True},
    ]


def tool(name: str, code: str) -> dict[str, Any]:
    """A custom tool that takes a text."""
    return {
        "toolName": name,
        "displayName": name,
        "description": "Of the soak.",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "executeFunction": code,
        "isGlobal": True,
    }


def fetching(name: str, url: str) -> str:
    """Code that has one effect."""
    return f"""async (input, context) => {{
  const body = JSON.stringify({{ tool: "{name}", mark: input.text }});
  const answer = await context.fetch("{url}{EFFECTS_PATH}", {{ method: "POST", body }});
  return await answer.json();
}}
"""

"""The messages of plans, judgments, reviews and formatting calls, kept as they were sent.

They are not a part of any conversation that `runState` stores. Equal messages of a tree, such as those of a batch of
judgments, are stored once.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
import structlog
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from app.database.collections import collection_of
from app.database.connection import Database
from app.kit.concurrency import end_tasks
from app.kit.json_values import JsonObject, clean_json
from app.kit.times import utc_now
from app.models.execution_events import SentPrompt
from app.services.llm.calls import Completion, ModelCaller, ModelRequest, RunPurpose

KEPT_PURPOSES = frozenset({RunPurpose.PLAN, RunPurpose.JUDGE, RunPurpose.REVIEW, RunPurpose.FORMAT})
MAX_PROMPT_BYTES = 8 * 1024 * 1024
"""Longer messages are not kept; no model's context holds them."""

log = structlog.get_logger(__name__)

KeepPrompt = Callable[[list[JsonObject]], Coroutine[Any, Any, str | None]]
"""Stores messages and returns their hash; `None` if they could not be stored."""


async def keep_prompt(database: Database, root_id: str, messages: list[JsonObject]) -> str | None:
    """Store the messages of a call, and return their SHA-256; a failure to store them does not fail the run."""
    kept: list[JsonObject] = clean_json(messages)
    text = orjson.dumps(kept)
    if len(text) > MAX_PROMPT_BYTES:
        return None
    sha256 = hashlib.sha256(text).hexdigest()
    fields = {"sha256": sha256, "messages": kept, "createdAt": utc_now()}
    try:
        await collection_of(database, SentPrompt).update_one(
            {"_id": f"{root_id}:{sha256}", "rootExecutionId": root_id}, {"$setOnInsert": fields}, upsert=True
        )
    except (PyMongoError, BSONError) as error:
        log.warning("prompt-not-kept", root=root_id, error=type(error).__name__)
        return None
    return sha256


async def find_prompt(database: Database, root_id: str, sha256: str) -> list[JsonObject] | None:
    """Return the messages that a tree's event names, if they are stored."""
    key = {"_id": f"{root_id}:{sha256}", "rootExecutionId": root_id}
    raw = await collection_of(database, SentPrompt).find_one(key)
    messages = (raw or {}).get("messages")
    return messages if isinstance(messages, list) else None


@dataclass(frozen=True)
class KeptPrompts:
    """Keeps the messages of some purposes while the model answers them."""

    following: ModelCaller
    keep: KeepPrompt

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request; the completion names its kept messages.

        Raises:
            AnswerNotCached: only a cached answer was wanted, and the cache has no answer.
            ModelCallFailed: the call failed.
            TreeLost: this process no longer owns the tree.
        """
        if request.purpose not in KEPT_PURPOSES:
            return await self.following.complete(request)
        if request.only_cached:  # without an answer, the messages were not sent
            completion = await self.following.complete(request)
            return replace(completion, prompt_hash=await self.keep(request.messages))
        keeping = asyncio.create_task(self.keep(request.messages))
        try:
            completion = await self.following.complete(request)
            return replace(completion, prompt_hash=await keeping)
        finally:
            await end_tasks(keeping)


def kept_in(database: Database, root_id: str) -> Callable[[ModelCaller], ModelCaller]:
    """Return the link that keeps the prompts of a tree."""
    return partial(KeptPrompts, keep=partial(keep_prompt, database, root_id))

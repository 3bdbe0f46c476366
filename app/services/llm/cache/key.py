"""The key of a cached answer: a hash of everything that shapes the answer.

Ids of executions and calls, the agent, the API key and the attempt are not part of it, so that two equal runs of one
project have equal keys. Two runs are equal only if their prompts are: fences are derived from the texts within them,
and no prompt contains a date or an id of a run.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from app.kit.json_values import JsonObject
from app.services.llm.calls import ModelRequest
from app.services.llm.failures.redaction import SECRET_NAME
from app.services.llm.model_info.fallbacks import names_reached
from app.services.llm.model_info.model_table import ModelEntry, ModelTable

FORMAT = 1
"""Increment it when the meaning of keys or stored entries changes, so that earlier entries are no longer found."""
UNSHAPING = frozenset(
    {
        *("id", "timeout", "stream_timeout", "max_retries", "num_retries", "cooldown_time", "order", "weight"),
        *("rpm", "tpm", "itpm", "otpm", "max_parallel_requests", "max_budget", "budget_duration"),
    }
)
"""The parameters of an entry that do not shape its answers."""
DEMO_PROVIDER = "demo"


@dataclass(frozen=True)
class DeploymentGroups:
    """The deployments that can answer the calls of a configured name, those of its fallbacks included."""

    deployments: Callable[[str], Iterable[ModelEntry]]
    """Returns the usable entries of a name."""
    table: ModelTable
    _hashes: dict[str, tuple[str, bool]] = field(default_factory=dict[str, tuple[str, bool]])

    def hash_of(self, model: str) -> tuple[str, bool]:
        """Return the hash of a name's deployments, and whether the demo model is one of them.

        Keys and other secrets are left out: an answer does not depend on the credential that paid for it.
        """
        known = self._hashes.get(model)
        if known is not None:
            return known
        names = names_reached(model, self.table.router_settings)
        entries = [entry for name in names for entry in self.deployments(name)]
        described = [[one.name, shaping(one.params), shaping(one.info)] for one in entries]
        found = (
            hash_of([described, self.table.litellm_settings]),
            any(one.provider == DEMO_PROVIDER for one in entries),
        )
        if entries:
            self._hashes[model] = found
        return found


def key_of(request: ModelRequest, groups: DeploymentGroups) -> str:
    """Return the key of a request: 64 hexadecimal digits."""
    group, has_demo = groups.hash_of(request.model)
    metadata = asdict(request.metadata) if has_demo and request.metadata is not None else None
    return hash_of(
        {
            "format": FORMAT,
            "project": request.scope.project,
            "model": request.model,
            "group": group,
            "purpose": request.purpose.value,
            "messages": request.messages,
            "tools": request.tools,
            "responseFormat": request.response_format,
            "temperature": request.temperature,
            "maxTokens": request.max_tokens,
            "metadata": metadata,
        }
    )


def shaping(params: JsonObject) -> JsonObject:
    """Return the parameters that shape answers, without secrets, limits and prices."""
    found: JsonObject = {}
    for name, value in params.items():
        is_secret = isinstance(value, str) and SECRET_NAME.search(name) is not None
        if name in UNSHAPING or "cost" in name or is_secret:
            continue
        kept = shaping(value) if isinstance(value, dict) else value
        if kept != {}:
            found[name] = kept
    return found


def hash_of(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the SHA-256 of a JSON value in canonical form, in hexadecimal digits."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError, RecursionError):  # a lone surrogate, or a number that orjson does not have
        text = json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(text).hexdigest()

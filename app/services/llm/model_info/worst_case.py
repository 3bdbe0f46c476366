"""The most that a model call can use, before it is made: counted input, and the output limit.

The input is counted in bytes. No tokenizer makes more than one token of a byte, so the count is never below the
provider's, whichever tokenizer that has. It takes a few milliseconds for a megabyte, so it needs no thread; LiteLLM's
`token_counter` takes half a second, and counts too few tokens for models whose tokenizer it does not have.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from app.kit.json_values import JsonObject
from app.services.llm.calls import ModelRequest
from app.services.llm.context.token_estimate import UNCOUNTED
from app.services.llm.model_info.fallbacks import names_reached
from app.services.llm.model_info.model_table import ModelEntry
from app.services.usage.budgets.amounts import Amount, units_of

OUTPUT_TOKENS = 4096
"""The output limit of a model if neither its entry nor LiteLLM's table states one."""
SCHEMA_TOKENS = 800
"""An upper bound on the instructions that providers add to a request with tools or a schema (Anthropic: up to 804)."""
MESSAGE_TOKENS = 4
"""The tokens around each message that are not in its JSON."""
INPUT_PRICES = ("input_cost_per_token", "cache_creation_input_token_cost")
OUTPUT_PRICES = ("output_cost_per_token", "output_cost_per_reasoning_token")
STEPPED = re.compile(r"(?P<price>.+)_above_(?P<thousands>\d+)k_tokens(?P<tier>_priority)?")
"""The name of a price that applies above a number of thousand tokens."""
PRIORITY = "_priority"


@dataclass(frozen=True)
class WorstCases:
    """Finds the worst case of requests to configured models.

    `deployments` gives the usable entries of a name, `limit_is_sent` whether a deployment's calls carry a request's own
    output limit (a model that reasons gets none).
    """

    deployments: Callable[[str], Iterable[ModelEntry]]
    limit_is_sent: Callable[[ModelEntry], bool]
    router_settings: JsonObject

    def of(self, request: ModelRequest) -> Amount:
        """Return the most tokens and the highest cost, over every deployment that the Router may choose.

        The cost is `None` if one of them has no price.
        """
        count = input_bound(request)
        entries = [
            entry for name in names_reached(request.model, self.router_settings) for entry in self.deployments(name)
        ]
        cases = [self._of(request, entry, count) for entry in entries]
        if not cases:
            return Amount(count + (request.max_tokens or OUTPUT_TOKENS), None)
        costs = [case.cost for case in cases if case.cost is not None]
        return Amount(max(case.tokens for case in cases), max(costs) if len(costs) == len(cases) else None)

    def _of(self, request: ModelRequest, entry: ModelEntry, count: int) -> Amount:
        output = output_limit(entry)
        if request.max_tokens is not None and self.limit_is_sent(entry):
            output = request.max_tokens
        if not entry.has_price:
            return Amount(count + output, None)
        per_input, per_output = (highest(entry, names, count) for names in (INPUT_PRICES, OUTPUT_PRICES))
        return Amount(count + output, units_of(count * per_input + output * per_output, up=True))


def input_bound(request: ModelRequest) -> int:
    """Return an upper bound of a request's input tokens."""
    sent = [{name: value for name, value in one.items() if name not in UNCOUNTED} for one in request.messages]
    count = json_bytes(sent) + MESSAGE_TOKENS * len(sent)
    schemas = [*request.tools, *([request.response_format] if request.response_format else [])]
    return count + (json_bytes(schemas) + SCHEMA_TOKENS if schemas else 0)


def json_bytes(value: Any) -> int:  # noqa: ANN401 - any JSON value
    """Return the length of a JSON value in bytes."""
    try:
        return len(orjson.dumps(value))
    except (TypeError, ValueError, RecursionError):  # a lone surrogate, or a number that orjson does not have
        return len(json.dumps(value, default=str))


def output_limit(entry: ModelEntry) -> int:
    """Return the maximum output tokens of a deployment's calls: its entry's limit, else its model's, else 4,096."""
    own = tokens_in(entry.params.get("max_completion_tokens")) or tokens_in(entry.params.get("max_tokens"))
    stated = own or tokens_in(entry.prices.get("max_output_tokens")) or OUTPUT_TOKENS
    thinking = entry.params.get("thinking")
    budget = tokens_in(thinking.get("budget_tokens")) if isinstance(thinking, dict) else 0
    return stated + budget if stated <= budget else stated


def tokens_in(value: object) -> int:
    """Return a number of tokens, 0 if the value is something else."""
    return value if isinstance(value, int) and value > 0 else 0


def highest(entry: ModelEntry, names: Iterable[str], tokens: int) -> float:
    """Return the highest price per token of a deployment for a request with this many input tokens."""
    wanted = tuple(names)
    has_priority = "service_tier" in entry.params
    found = [0.0]
    for name, price in entry.prices.items():
        if not isinstance(price, int | float):
            continue
        stepped = STEPPED.fullmatch(name)
        plain = stepped["price"] if stepped else name.removesuffix(PRIORITY)
        if plain not in wanted or (name.endswith(PRIORITY) and not has_priority):
            continue
        if stepped is None or tokens > int(stepped["thousands"]) * 1000:
            found.append(float(price))
    return max(found)

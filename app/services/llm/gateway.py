"""The model gateway: every model call of the service goes through LiteLLM's Router here."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any
from weakref import WeakSet

import structlog
from openai import APIError
from pydantic import ValidationError

from app.errors import StartupError
from app.kit.json_values import JsonObject
from app.services.llm.calls import CallLimits, Completion, ModelRequest
from app.services.llm.failures.classification import failure_of
from app.services.llm.failures.errors import (
    AnswerNotCached,
    ModelAnswerEmpty,
    ModelAnswerInvalid,
    ModelCallFailed,
    ModelNotConfigured,
    ModelRequestRefused,
)
from app.services.llm.failures.redaction import secrets_in
from app.services.llm.fitting.deployments import CallRecord, Deployments
from app.services.llm.ledger import answered_call, calls_before, failed_calls
from app.services.llm.litellm_patches.direct_http import patch_http
from app.services.llm.litellm_patches.performance import UncountedRouter, patch_litellm
from app.services.llm.litellm_patches.provider_turns import patch_provider_turns
from app.services.llm.litellm_patches.router import FittingRouter
from app.services.llm.litellm_patches.setup import (
    BaseLLMException,
    Deployment,
    hidden_params_of,
    is_internal_call,
    litellm,
)
from app.services.llm.litellm_patches.streams import patch_streams
from app.services.llm.messages.answers import answer_of, carries_data, message_of
from app.services.llm.messages.streams import StreamCut, collect_stream
from app.services.llm.messages.text_events import LiveText, live_text
from app.services.llm.messages.turns import ORIGIN, TurnReader
from app.services.llm.model_info.model_names import is_wildcard, matches
from app.services.llm.model_info.model_table import ModelEntry, ModelTable
from app.services.llm.model_info.wildcards import expand
from app.services.llm.usable_answers import ABORTED, MAX_ANSWER_CHARACTERS, native_finish_of, usable

DEFAULT_LIMITS = CallLimits()
LIMITS = {"tpm", "rpm", "itpm", "otpm", "max_budget"}
PLAIN_SETTINGS = {"num_retries", "timeout", "disable_cooldowns", "fallbacks", "retry_after", "retry_policy"}
CALL_ERRORS = (
    APIError,
    ArithmeticError,
    AttributeError,
    BaseLLMException,
    LookupError,
    TimeoutError,
    TypeError,
    ValueError,
)
"""The errors that failed calls and invalid answers raise."""
MAX_NAMES = 5000
"""The number of models that a process creates entries for; each name that matches a wildcard is one."""
DEMO_PROVIDER = "demo"
METADATA_KEY = "call"
"""The key of a request's `CallMetadata` within LiteLLM's `metadata`."""
RETRY_POLICIES = ("retry_policy", "model_group_retry_policy")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ModelDescription:
    """The description of a configured name in `/models`."""

    name: str
    usable: bool
    problem: str | None
    price_known: bool
    input_cost_per_token: float | None
    output_cost_per_token: float | None
    retires_on: date | None = None


class ModelGateway:
    """LiteLLM's Router over the entries of a model table."""

    def __init__(
        self, table: ModelTable, limits: CallLimits = DEFAULT_LIMITS, *, performance_patches: bool = True
    ) -> None:
        """Open the Router; without `performance_patches`, LiteLLM works as it does by default."""
        patch_http()
        patch_streams()
        patch_provider_turns()
        if performance_patches:
            patch_litellm()
        self._limits = limits
        self.merges_events = performance_patches
        """Whether the text events of streams are merged before LiteLLM reads them."""
        self.table = table
        self._entries = {entry.id: entry for entry in table.entries}
        self._readers = {entry.id: TurnReader(entry) for entry in table.entries}
        self._named = {name: [entry for entry in table.entries if entry.name == name] for name in table.names}
        for name, value in table.litellm_settings.items():
            setattr(litellm, name, value)
        usable = [entry for entry in table.entries if entry.problem is None]
        plain = [entry for entry in usable if not is_wildcard(entry.name)]
        for entry in usable:
            litellm.model_cost.pop(entry.id, None)  # the price that an earlier Router registered under this id
        try:
            self._is_bare = performance_patches and not needs_bookkeeping(table)
            router_type = UncountedRouter if self._is_bare else FittingRouter
            self._router = router_type(model_list=[router_row(entry) for entry in plain], **table.router_settings)
        except (APIError, ValueError, TypeError) as error:
            raise StartupError(f"MODELS_CONFIG: LiteLLM's Router rejects it: {refusal_of(error)}") from None
        self._router.first_byte_seconds = limits.first_byte_seconds
        self._deployments = Deployments(usable)
        self._router.fitter = self._deployments
        self._router_retries = any(table.router_settings.get(name) for name in RETRY_POLICIES)
        self._streamed = {entry.name for entry in usable if entry.stream}
        self._secrets = frozenset(secret for entry in usable for secret in secrets_in(entry.params))
        OPEN_GATEWAYS.add(self)

    def has(self, model: str) -> bool:
        """Return whether a model has an entry, its own or a wildcard's."""
        return not is_wildcard(model) and bool(self._entries_named(model))

    def _entries_named(self, model: str) -> list[ModelEntry]:
        """Return the deployments of a name; those of a wildcard are created when a model is first used."""
        entries = self._named.get(model)
        if entries is not None:
            return entries
        wildcard = matches(self.table.names, model)
        if wildcard is None or len(self._named) >= MAX_NAMES:
            return []
        made = [expand(entry, model, self.table.fill_key) for entry in self._named[wildcard]]
        self._named[model] = made
        for entry in made:
            self._entries[entry.id] = entry
            self._readers[entry.id] = TurnReader(entry)
            if entry.problem is None:
                self._deployments.add(entry)
                self._router.add_deployment(Deployment(**router_row(entry)))
        if any(entry.stream for entry in made):
            self._streamed.add(model)
        return made

    def check(self, model: str) -> None:
        """Check that a configured name can be called.

        Raises:
            ModelNotConfigured: the name has no entry, its entry lacks its key, or it stands for many models.
        """
        if is_wildcard(model):
            raise ModelNotConfigured(model, "It stands for many models. Name one of them.")
        entries = self._entries_named(model)
        if not entries:
            raise ModelNotConfigured(model, self.table.reason_for_absence(model))
        problems = [entry.problem for entry in entries]
        if all(problems):
            raise ModelNotConfigured(model, str(problems[0]))

    def retries_of(self, model: str) -> int:
        """Return the number of retries of a configured name; 0 if the Router has its own retry policies."""
        if self._router_retries:
            return 0
        own = self._first_entry(model).params.get("num_retries")
        return int(self.table.router_settings.get("num_retries") or 0 if own is None else own)

    def record_name(self, model: str) -> str:
        """Return the name of a configured model in records."""
        return self._first_entry(model).record_name if self.has(model) else model

    def context_tokens(self, model: str) -> int | None:
        """Return the input tokens that every deployment of a configured name accepts; `None` if unknown."""
        entries = [entry for entry in self._entries_named(model) if entry.problem is None]
        known = [entry.prices.get("max_input_tokens") for entry in entries]
        sizes = [size for size in known if isinstance(size, int) and size > 0]
        return min(sizes) if sizes and len(sizes) == len(known) else None

    def answer_tokens(self, model: str) -> int:
        """Return the tokens that a call reserves for its answer by its entries or LiteLLM's defaults, else 0."""
        entries = [entry for entry in self._entries_named(model) if entry.problem is None]
        return max(map(reserved_tokens, entries), default=0)

    def usable_entries(self, model: str) -> list[ModelEntry]:
        """Return the deployments of a configured name that calls can go to."""
        return [entry for entry in self._entries_named(model) if entry.problem is None]

    def sends_limit(self, entry: ModelEntry) -> bool:
        """Return whether a deployment's calls carry the output limit of their request."""
        model = self._deployments.of(entry)
        return not (model.thinks({}) or model.leaves_out("max_tokens") or model.leaves_out("max_completion_tokens"))

    def describe(self) -> list[ModelDescription]:
        """Return every configured name, whether it can be used, and its price."""
        return [self._describe(name) for name in self.table.names]

    def _first_entry(self, name: str) -> ModelEntry:
        """Return the first usable deployment of a configured name, or its first one if none is usable."""
        entries = self._entries_named(name)
        return next((entry for entry in entries if entry.problem is None), entries[0])

    def _describe(self, name: str) -> ModelDescription:
        entry = self._first_entry(name)
        known = entry.has_price
        return ModelDescription(
            name=name,
            usable=entry.problem is None,
            problem=entry.problem,
            price_known=known,
            input_cost_per_token=entry.prices.get("input_cost_per_token") if known else None,
            output_cost_per_token=entry.prices.get("output_cost_per_token") if known else None,
            retires_on=entry.retires,
        )

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request; it is streamed only if `on_delta` is set or the entry says so.

        Raises:
            AnswerNotCached: only a cached answer was wanted.
            ModelNotConfigured: the catalog name has no usable entry.
            ModelCallFailed: no usable answer, after the Router's retries and fallbacks.
        """
        if request.only_cached:
            raise AnswerNotCached
        self.check(request.model)
        with self._deployments.recording(request) as record:
            try:
                return await self._complete(request, record)
            except ModelCallFailed as error:
                error.calls = error.calls or failed_calls(request, record, error.code, self._secrets)
                raise

    async def _complete(self, request: ModelRequest, record: CallRecord) -> Completion:
        """Answer one request, and record its attempts."""
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                return self._completion(request, record, *await self._call(request))
        except StreamCut as cut:
            raise ModelAnswerInvalid(str(cut)) from None
        except CALL_ERRORS as error:
            failure = failure_of(request.model, error, self._secrets)
            failure.is_adapted = bool(record.lessons)
            log.warning(
                "model-call-failed",
                model=request.model,
                purpose=request.purpose,
                error=type(error).__name__,
                status=getattr(error, "status_code", None),
                reason=failure.message,
                providerMessage=failure.provider_message,
            )
            raise failure from None

    async def _call(self, request: ModelRequest) -> tuple[Any, JsonObject | None]:
        """LiteLLM's response and its message, if it has one."""
        arguments = call_arguments(request)
        if not self._router_retries:
            arguments["num_retries"] = 0  # the caller counts the attempts
        if request.metadata is not None and self._first_entry(request.model).provider == DEMO_PROVIDER:
            arguments["metadata"] = {METADATA_KEY: request.metadata}
        is_streamed = request.on_delta is not None or request.model in self._streamed
        if is_streamed:
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        live = LiveText(request.on_delta, self._limits.idle_seconds)
        merging = live_text.set(live if is_streamed and self.merges_events else None)
        try:
            answer = await self._answer(arguments)
            if not is_streamed:
                return answer, message_of(answer)
            try:
                return await collect_stream(answer, live, MAX_ANSWER_CHARACTERS)
            except BaseException:
                await answer.aclose()  # the error's traceback would keep the connection open
                raise
        finally:
            live_text.reset(merging)

    async def _answer(self, arguments: JsonObject) -> Any:  # noqa: ANN401 - LiteLLM's response or stream
        """LiteLLM's response, or its stream once it has begun."""
        # LiteLLM then skips the callbacks and records after a call.
        before = is_internal_call.set(self._is_bare)
        try:
            answer = await self._router.acompletion(**arguments)
        finally:
            is_internal_call.reset(before)
        if answer is None:  # LiteLLM's result for a 422, after it removed the parameters that the error names
            model = arguments["model"]
            raise ModelRequestRefused(f"The model {model!r}: the provider refuses the request (HTTP 422).")
        return answer

    def _completion(
        self,
        request: ModelRequest,
        record: CallRecord,
        response: Any,  # noqa: ANN401 - LiteLLM's response
        message: JsonObject | None,
    ) -> Completion:
        """Return the completion in a response.

        Raises:
            ModelCallFailed: the answer is unusable; the error has its cost.
        """
        entry = self._entry_of(response, request.model)
        call = answered_call(request, record, response, entry)
        before = calls_before(request, record, self._secrets)
        if message is None:
            error = ModelAnswerInvalid(f"The model {request.model!r} returned an answer without choices.")
            error.calls = (*before, call.failed(error.code))
            raise error
        answer = answer_of(message)
        completion = Completion(
            text=answer.text,
            tool_calls=answer.tool_calls,
            usage=call.usage,
            cost_usd=call.cost_usd,
            calls=(*before, call),
            model=entry.record_name,
            finish_reason=response.choices[0].finish_reason,
            reasoning=answer.reasoning,
            provider_data={ORIGIN: self._readers[entry.id].origin, **answer.carried} if carries_data(answer) else None,
        )
        try:
            if native_finish_of(response) in ABORTED:
                raise ModelCallFailed(f"The model {request.model!r} failed: its provider aborted the answer.")
            return usable(request, completion)
        except ModelCallFailed as error:
            if isinstance(error, ModelAnswerEmpty) and error.is_cut and request.max_tokens is not None:
                error.is_adapted = self._deployments.record_exhausted_limit(entry)
            error.calls = completion.refused(error.code)
            raise

    def _entry_of(self, response: Any, model: str) -> ModelEntry:  # noqa: ANN401 - LiteLLM's response
        """Return the entry that answered, which can be another one of the same name, or a fallback."""
        chosen = hidden_params_of(response).get("model_id")
        return self._entries.get(str(chosen)) or self._first_entry(model)

    async def close(self) -> None:
        """Close LiteLLM's connections, unless another gateway of this process still uses them."""
        self._router.discard()
        OPEN_GATEWAYS.discard(self)
        if OPEN_GATEWAYS:
            return
        await litellm.close_litellm_async_clients()
        # Closed clients stay in the cache, where the next gateway's calls would find them.
        litellm.in_memory_llm_clients_cache.flush_cache()
        await asyncio.sleep(0)


def reserved_tokens(entry: ModelEntry) -> int:
    """Return the output limit of a deployment's requests; for Claude, LiteLLM sends the model's own if none is set."""
    given = entry.params.get("max_completion_tokens") or entry.params.get("max_tokens")
    if given is None and "claude" in entry.priced_as:
        given = entry.prices.get("max_output_tokens")
    return given if isinstance(given, int) and given > 0 else 0


OPEN_GATEWAYS: WeakSet[ModelGateway] = WeakSet()
"""The gateways of this process: they share LiteLLM's cache of connections."""


def refusal_of(error: Exception) -> str:
    """Return why the Router rejects its settings, on one line and without values, which may be keys."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}."
    return " ".join(str(error).split())


def needs_bookkeeping(table: ModelTable) -> bool:
    """Return whether callbacks, cooldowns, limits or another routing strategy use LiteLLM's logs and counts."""
    limited = any(LIMITS & {*entry.params, *entry.info} for entry in table.entries)
    plain = table.router_settings.get("disable_cooldowns") is True and table.router_settings.keys() <= PLAIN_SETTINGS
    return limited or not plain or bool(table.litellm_settings)


def router_row(entry: ModelEntry) -> JsonObject:
    """Return an entry in the form of the Router's `model_list`."""
    return {"model_name": entry.name, "litellm_params": entry.params, "model_info": {**entry.info, "id": entry.id}}


def call_arguments(request: ModelRequest) -> JsonObject:
    """Return a request in the form of `Router.acompletion`."""
    arguments: JsonObject = {
        "model": request.model,
        "messages": request.messages,
        "_skip_mcp_handler": True,  # the search for tools of LiteLLM's proxy would import 17 MB
        "extra_headers": {"X-Execution-Id": request.execution_id, "X-Run-Purpose": request.purpose.value},
    }
    optional = {
        "tools": request.tools or None,
        "response_format": request.response_format,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
    return arguments | {name: value for name, value in optional.items() if value is not None}

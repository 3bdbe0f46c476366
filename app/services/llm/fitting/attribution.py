"""Labels by which a provider or a LiteLLM proxy attributes spend to the caller of a run."""

from app.kit.json_values import JsonObject
from app.services.llm.calls import ModelRequest
from app.services.llm.model_info.capabilities import Capabilities, Wire
from app.telemetry.tracing import outgoing_headers

PROXY = "litellm_proxy"
TRACE_CONTEXT = "trace_context"
USER_SERVERS = frozenset({"openai", "azure"})
"""Providers that accept any `user`."""


def attributed(arguments: JsonObject, model: Capabilities, request: ModelRequest) -> JsonObject:
    """Return the arguments with a `user`, and for a LiteLLM proxy with `metadata`, unless the entry sets them itself.

    They go in `extra_body`: LiteLLM uses `metadata` itself, and sends `user` only to models that it knows.
    """
    is_proxy = model.server == PROXY
    if not is_proxy and (model.server not in USER_SERVERS or model.wire != Wire.OPENAI):
        return arguments
    labels: JsonObject = {"user": user_of(request)}
    if is_proxy:
        labels["metadata"] = metadata_of(request)
    own: JsonObject = model.entry.params.get("extra_body") or {}
    labels = {name: value for name, value in labels.items() if value and model.entry.params.get(name) is None} | own
    return {**arguments, "extra_body": labels} if labels else arguments


def with_trace(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments with the trace that the call belongs to, if `model_info` of the entry asks for it.

    Only an operator knows whether a server may learn of a trace, and whether it is a proxy that continues it.
    """
    if model.entry.info.get(TRACE_CONTEXT) is not True:
        return arguments
    headers = {**(arguments.get("extra_headers") or {}), **outgoing_headers()}
    return {**arguments, "extra_headers": headers}


def user_of(request: ModelRequest) -> str | None:
    """Return the API key of a run's caller or else its project, named like the scope of a budget."""
    scope = request.scope
    if scope.api_key:
        return f"key:{scope.api_key}"
    return f"project:{scope.project}" if scope.project else None


def metadata_of(request: ModelRequest) -> JsonObject:
    """Everything that a call's cost is attributed to; `tags` are the run's."""
    scope = request.scope
    found: JsonObject = {
        "executionId": request.execution_id,
        "rootExecutionId": scope.root_execution_id or request.execution_id,
        "agent": scope.agent,
        "department": scope.department,
        "project": scope.project,
        "purpose": request.purpose.value,
        "tags": list(scope.tags),
    }
    return {name: value for name, value in found.items() if value}

"""Parameters that a model knows, with values that it accepts."""

from app.kit.json_values import JsonObject
from app.services.llm.model_info.capabilities import Capabilities, Wire
from app.services.llm.model_info.lessons import LEFT_OUT

SAMPLING = ("temperature", "top_p", "top_k")
FORCED = ("auto", "none", None)


def fit_parameters(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments without parameters that the model does not accept.

    The entry's own `litellm_params` stay, unless the model refuses one: then `None` overrides it.
    """
    fitted = dict(arguments)
    if model.thinks(arguments):
        fit_thinking(fitted, model)
    limit = fitted.get("max_tokens")
    if limit is not None and model.wants_completion_tokens:
        del fitted["max_tokens"]
        fitted["max_completion_tokens"] = limit
    for name in LEFT_OUT:
        if not model.leaves_out(name):
            continue
        fitted.pop(name, None)
        if model.entry.params.get(name) is not None:
            fitted[name] = None
    return fitted


def fit_thinking(fitted: JsonObject, model: Capabilities) -> None:
    """Remove parameters that a reasoning model refuses, and a limit that its reasoning would use up."""
    fitted.pop("max_tokens", None)
    if model.wire not in {Wire.ANTHROPIC, Wire.OPENAI}:
        return
    for name in SAMPLING:
        fitted.pop(name, None)
        if model.wire == Wire.ANTHROPIC and model.entry.params.get(name) is not None:
            fitted[name] = None
    if model.wire == Wire.ANTHROPIC:
        if fitted.get("tool_choice") not in FORCED:
            fitted["tool_choice"] = "auto"
        budget = (model.entry.params.get("thinking") or {}).get("budget_tokens")
        own = model.entry.params.get("max_tokens")
        if isinstance(budget, int) and isinstance(own, int) and own <= budget:
            fitted["max_tokens"] = own + budget

"""Tools in the form that a model accepts: schemas in its subset and unique names."""

import structlog

from app.kit.json_values import JsonObject
from app.services.llm.fitting.schemas import for_gemini, parameters_of, plain
from app.services.llm.model_info.capabilities import Capabilities, Wire
from app.services.llm.model_info.lessons import LEFT_OUT_TOOL, TOOL

MAX_NOTED = 1_000

log = structlog.get_logger(__name__)


def fit_tools(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments with every tool in a form that the model accepts; tools without one are left out."""
    fitted: dict[str, JsonObject] = {}
    for tool in arguments.get("tools") or ():
        name = str((tool.get("function") or {}).get("name"))
        form = None if name in fitted else fit_tool(tool, name, model)
        if form is None:
            note_left_out(model, name)
        else:
            fitted[name] = form
    without = {name: value for name, value in arguments.items() if name != "tools"}
    if fitted:
        return {**without, "tools": list(fitted.values())}
    if model.wants_tools_of_history and (names := called_tools(arguments.get("messages") or [])):
        return {**without, "tools": [named_tool(name) for name in names], "tool_choice": "none"}
    return {name: value for name, value in without.items() if name != "tool_choice"}


def fit_tool(tool: JsonObject, name: str, model: Capabilities) -> JsonObject | None:
    """One tool in the model's form; `None` if it has no such form."""
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    if f"{TOOL}{name}{LEFT_OUT_TOOL}" in model.lessons:
        return None
    parameters = parameters_of(function.get("parameters"))
    if parameters is None:
        return None
    if f"{TOOL}{name}" in model.lessons:
        parameters = parameters_of(plain(parameters)) or parameters
    elif model.wire == Wire.GEMINI:
        parameters = {"properties": {}, **for_gemini(parameters)}
    return {**tool, "function": {**function, "parameters": parameters}}


def called_tools(messages: list[JsonObject]) -> list[str]:
    """Return the names of the tools that a conversation calls, each once."""
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return list(dict.fromkeys(str(call["function"]["name"]) for call in calls))


def named_tool(name: str) -> JsonObject:
    """Return a tool of which only the name matters, because it may not be called."""
    parameters: JsonObject = {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": name, "description": "Not available now.", "parameters": parameters},
    }


def note_left_out(model: Capabilities, name: str) -> None:
    """Log once that a tool is withheld from a model."""
    noted = (model.entry.id, name)
    if noted in NOTED:
        return
    if len(NOTED) < MAX_NOTED:
        NOTED.add(noted)
    reason = "its input schema has no form that the model's provider accepts, or its name is already used"
    log.warning("tool-omitted", model=model.entry.name, tool=name, reason=reason)


NOTED: set[tuple[str, str]] = set()
"""The withheld tools that were logged, each with its entry."""

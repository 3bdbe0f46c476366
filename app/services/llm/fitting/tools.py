"""Tools as a model takes them."""

from app.models.json_values import JsonObject
from app.services.llm.capabilities import Capabilities


def fit_tools(arguments: JsonObject, _: Capabilities) -> JsonObject:
    """The arguments with every tool in a form that the model takes."""
    tools = arguments.get("tools")
    if not tools:
        return {name: value for name, value in arguments.items() if name != "tools"}
    return {**arguments, "tools": [fit_tool(tool) for tool in tools]}


def fit_tool(tool: JsonObject) -> JsonObject:
    """One tool, whose parameters name their properties even where there are none."""
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    parameters = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
    return {**tool, "function": {**function, "parameters": parameters}}

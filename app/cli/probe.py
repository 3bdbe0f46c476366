"""`dynamic-agents doctor --probe`: one small real call per model and ability, and a table of the results."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.progress import plain
from app.demo.provider import register_demo_provider
from app.errors import AppError, StartupError
from app.kit.json_values import JsonObject
from app.services.llm.calls import CallLimits, Completion, ModelCaller, ModelRequest, RunPurpose
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.gateway import ModelGateway
from app.services.llm.messages.structured_output import AnswerSchema, ask_structured
from app.services.llm.model_info.model_names import is_wildcard, matches
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.opening import problem_of
from app.settings import Settings

MAX_TRIES = 8
MODELS_AT_A_TIME = 4
PROBE_LIMITS = CallLimits(first_byte_seconds=60, idle_seconds=30, total_seconds=90)
TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "echo",
        "description": "Returns a text unchanged.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
ANSWER = AnswerSchema(
    "probe",
    {
        "type": "object",
        "properties": {"ready": {"type": "boolean"}},
        "required": ["ready"],
        "additionalProperties": False,
    },
)

Probe = Callable[[ModelCaller, str], Awaitable[str | None]]


@dataclass
class Results:
    """The results of one model: for each ability, `None` if it works, otherwise the problem."""

    model: str
    problems: dict[str, str | None] = field(default_factory=dict[str, str | None])


@dataclass(frozen=True)
class AdaptingCaller:
    """A caller that repeats a call in another form if the provider refused a part of the request."""

    gateway: ModelGateway

    async def complete(self, request: ModelRequest) -> Completion:
        """Call the model."""
        for _ in range(MAX_TRIES):
            try:
                return await self.gateway.complete(request)
            except ModelCallFailed as error:
                if not error.is_adapted:
                    raise
        return await self.gateway.complete(request)


async def print_probes(settings: Settings, console: Console) -> bool:
    """Print the table and the problems; return whether every ability works."""
    try:
        register_demo_provider()
        gateway = ModelGateway(load_model_table(settings), PROBE_LIMITS)
    except StartupError as error:
        console.print(Text(f"The models cannot be probed: {plain(str(error))}", style="bold red"))
        return False
    names = models_to_probe(settings, gateway)
    unnamed = wildcards_without(names, gateway)
    if not names and not unnamed:
        console.print("No model to probe: only the offline demo model is usable.")
    for name in unnamed:
        console.print(f"{plain(name)} is not probed: it stands for many models. Name those to probe in ALLOWED_MODELS.")
    room = asyncio.Semaphore(MODELS_AT_A_TIME)
    results = await asyncio.gather(*(probe(AdaptingCaller(gateway), name, room) for name in names))
    await gateway.close()
    if results:
        console.print(table_of(results))
    for result in results:
        for ability, problem in result.problems.items():
            if problem is not None:
                console.print(Text(f"{plain(result.model)}, {ability}: {plain(problem)}", style="red"))
    return not any(problem for result in results for problem in result.problems.values())


def models_to_probe(settings: Settings, gateway: ModelGateway) -> list[str]:
    """Return the usable models with an entry of their own, and those of the settings that a wildcard stands for."""
    own = [model.name for model in gateway.describe() if not is_wildcard(model.name)]
    allowed = settings.allowed_models if "allowed_models" in settings.model_fields_set else ()
    named = [*allowed, *settings.complexity_models.values(), *settings.purpose_models.values()]
    candidates = dict.fromkeys([*own, *(name for name in named if matches(gateway.table.names, name))])
    usable = (name for name in candidates if problem_of(gateway, name) is None)
    return [name for name in usable if gateway.record_name(name) != "demo"]


def wildcards_without(names: list[str], gateway: ModelGateway) -> list[str]:
    """Return the usable wildcards that stand for none of these models."""
    wildcards = [model.name for model in gateway.describe() if model.usable and is_wildcard(model.name)]
    used = {matches(wildcards, name) for name in names if name not in gateway.table.names}
    return [name for name in wildcards if name not in used]


def table_of(results: list[Results]) -> Table:
    """Build a table with a row for each model and a column for each ability."""
    table = Table("model", *PROBES)
    for result in results:
        marks = [Text("ok", "green") if result.problems[name] is None else Text("no", "bold red") for name in PROBES]
        table.add_row(plain(result.model), *marks)
    return table


async def probe(models: ModelCaller, name: str, room: asyncio.Semaphore) -> Results:
    """Probe the abilities of one model in turn."""
    results = Results(name)
    async with room:
        for ability, ask in PROBES.items():
            try:
                results.problems[ability] = await ask(models, name)
            except AppError as error:
                said = error.provider_message if isinstance(error, ModelCallFailed) else None
                results.problems[ability] = f"{error.message} The provider says: {said}" if said else error.message
    return results


def request_of(model: str, prompt: str) -> ModelRequest:
    """Build a small request."""
    return ModelRequest(model, [{"role": "user", "content": prompt}], RunPurpose.WORK, "doctor")


async def probe_text(models: ModelCaller, model: str) -> str | None:
    """Return why the model does not answer with text, or `None` if it does."""
    answer = await models.complete(request_of(model, "Answer with the word: ready"))
    return None if answer.text.strip() else "It answered without text."


async def probe_tool_call(models: ModelCaller, model: str) -> str | None:
    """Return why the model does not call a tool with usable arguments, or `None` if it does."""
    request = request_of(model, "Call the tool echo with the text: ready")
    request.tools.append(TOOL)
    answer = await models.complete(request)
    call = next((one for one in answer.tool_calls if one.name == "echo"), None)
    if call is None:
        return "It answered without calling the tool."
    try:
        is_usable = isinstance(json.loads(call.arguments), dict)
    except (ValueError, RecursionError):
        is_usable = False
    return None if is_usable else "It called the tool with arguments that are not a JSON object."


async def probe_structured(models: ModelCaller, model: str) -> str | None:
    """Return why its answer does not match a schema, or `None` if it does."""
    answer = await ask_structured(models, request_of(model, "Say that you are ready, as a JSON object."), ANSWER)
    return None if answer.valid else f"Its answer does not match the schema: {'; '.join(answer.problems)}"


async def probe_stream(models: ModelCaller, model: str) -> str | None:
    """Return why its text does not stream, or `None` if it does."""
    parts: list[str] = []
    request = request_of(model, "Count from one to five, in words.")
    await models.complete(
        ModelRequest(request.model, request.messages, request.purpose, request.execution_id, on_delta=parts.append)
    )
    return None if parts else "Its text did not come as a stream."


PROBES: dict[str, Probe] = {
    "text": probe_text,
    "tool call": probe_tool_call,
    "structured answer": probe_structured,
    "stream": probe_stream,
}

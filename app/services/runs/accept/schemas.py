"""The requests that start runs, and the check of their parameters."""

from itertools import chain, islice
from typing import Annotated, Literal

import bson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.errors import MAX_PROBLEMS, FieldError, InvalidInput
from app.kit.check_thread import in_check_thread
from app.kit.json_limits import MAX_INTEGER, JsonObject, count_values
from app.kit.schemas import ObjectIdStr, Text
from app.kit.strict_json import find_problems, references_in

MAX_PROMPT_CHARACTERS = 100_000
MAX_DEPARTMENTS = 100
MAX_COST_USD = 1_000_000_000
MAX_INLINE_VALUES = 4096
"""Parameters of more values are checked in a thread."""
MAX_PARAMS_BYTES = 1024 * 1024
"""The size limit of parameters as BSON, in which an array of small numbers is six times as large as in JSON."""


class RunCreate(BaseModel):
    """A run to start: of an agent or of a department, whichever the path names."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        use_attribute_docstrings=True,
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "prompt": "Outline a short film about a lighthouse keeper who hears the sea answer.",
                    "project": "66f0a1b2c3d4e5f601234567",
                }
            ]
        },
    )

    prompt: Annotated[Text, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    """The task, in the caller's words."""
    project: ObjectIdStr
    """The id of the CMS project that the run belongs to. The project need not exist."""
    episode: ObjectIdStr | None = None
    """The id of the CMS episode that the run belongs to, if any."""
    conversation_id: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """A name for the conversation that the run belongs to. Executions can be filtered by it. Without it, the run
    belongs to the conversation of the execution that it continues."""
    params: JsonObject | None = None
    """Parameters that agents receive as data. At most 1 MiB as MongoDB stores them (BSON)."""
    model: Annotated[Text, Field(min_length=1)] | None = None
    """The catalog model that every agent of the run calls, in place of its own."""
    complexity: Literal["simple", "standard", "complex"] | None = None
    """The difficulty of the task, which selects the model: `simple`, `standard` or `complex`, for which `SIMPLE_MODEL`,
    `STANDARD_MODEL` and `COMPLEX_MODEL` name the models. `model` takes precedence."""
    previous_execution_id: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """A finished execution of the same project whose conversation the run continues."""
    max_revisions: Annotated[int, Field(ge=0, le=5)] = 1
    """The maximum number of times that a reviewer may send a specialist's work back."""
    deltas: bool = False
    """Whether to stream the models' text from the start, for subscribers that ask for deltas."""
    tags: Annotated[list[Annotated[Text, Field(min_length=1, max_length=100)]], Field(max_length=20)] = []
    """Labels of the run, by which costs can be added up."""
    approvals: Literal["all"] | None = None
    """`all`: no tool is called before a person has approved the call. Tools and agents can require approvals too; a run
    can only add to them."""
    cache: bool = True
    """Whether the run may use cached model answers."""
    max_tokens: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    """The maximum number of tokens, input and output together, that the run and all executions it starts may use."""
    max_cost_usd: Annotated[float, Field(gt=0, le=MAX_COST_USD, allow_inf_nan=False)] | None = None
    """The maximum cost in US dollars of the run and all executions that it starts. Models without a known price are
    then refused."""
    output_schema: JsonObject | None = None
    """The JSON Schema (draft 2020-12, at most 64 KiB, without references to other documents) that `output.data` of the
    run's root has to match. It replaces the agent's `outputSchema`. A run whose data does not match fails with
    `output-invalid`."""
    judge: bool = True
    """Whether to score the output of a single agent's run. The work of departments is always scored."""


class OrchestrationCreate(RunCreate):
    """An orchestration to start: a run over several departments."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prompt": "Develop a short film about a lighthouse keeper who hears the sea answer.",
                    "project": "66f0a1b2c3d4e5f601234567",
                    "departments": ["story", "character", "visual"],
                }
            ]
        },
    )

    departments: Annotated[list[Text], Field(min_length=1, max_length=MAX_DEPARTMENTS)] | None = None
    """The slugs of the departments to run, in order of priority. Without it, all active departments run."""


async def check_params(params: JsonObject | None) -> None:
    """Check that a document can hold a run's parameters; large ones are checked in a thread.

    Raises:
        InvalidInput: they cannot be stored; the error names the path of each invalid value.
    """
    if params is None:
        return
    is_small = count_values(params, MAX_INLINE_VALUES) < MAX_INLINE_VALUES
    problems = problems_with_params(params) if is_small else await in_check_thread(problems_with_params, params)
    if problems:
        raise InvalidInput.of_fields(problems)


def problems_with_params(params: JsonObject) -> list[FieldError]:
    """Return at most 50 problems that keep the parameters from being stored."""
    path = (None, "params")
    if problems := list(
        islice(chain(find_problems(params, root_path=path), references_in(params, path)), MAX_PROBLEMS)
    ):
        return problems
    size = len(bson.encode(params))
    if size > MAX_PARAMS_BYTES:
        return [FieldError("params", f"takes {size} bytes as MongoDB stores it, more than {MAX_PARAMS_BYTES}")]
    return []

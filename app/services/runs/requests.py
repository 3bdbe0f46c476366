"""What a client asks when it starts a run."""

import math
from typing import Annotated, Any, Literal

import bson
from bson import ObjectId
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.models.json_values import JsonObject

MAX_PROMPT_CHARACTERS = 100_000
MAX_DEPARTMENTS = 100
MAX_PARAMS_BYTES = 1024 * 1024
"""What parameters may take in MongoDB's form, where an array of small numbers is six times as large as in JSON."""


def is_object_id(value: str) -> str:
    """A CMS document's id."""
    if not ObjectId.is_valid(value):
        raise ValueError("must be the 24-character hexadecimal id of a CMS document")
    return value


def is_storable_text(value: str) -> str:
    """Text that UTF-8 and MongoDB can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return value


Text = Annotated[str, AfterValidator(is_storable_text)]
CmsId = Annotated[str, AfterValidator(is_object_id), Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{24}$"})]


class RunCreate(BaseModel):
    """A run to start: of an agent or of a department, whichever the path names."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
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
    """What is asked."""
    project: CmsId
    """The CMS project that the run belongs to (24 hexadecimal characters); it need not exist."""
    episode: CmsId | None = None
    """The CMS episode, if any."""
    conversation_id: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """A conversation that the run is part of; executions can be filtered by it."""
    params: JsonObject | None = None
    """Parameters of your own, which agents see as data. At most 1 MiB as MongoDB stores them (BSON)."""
    model: Annotated[Text, Field(min_length=1)] | None = None
    """A catalogue model that the whole run uses instead of its agents' own."""
    complexity: Literal["simple", "standard", "complex"] | None = None
    """Pick the model by the difficulty of the task, as the service is set up; `model` wins over it."""
    previous_execution_id: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """A finished execution of the same project whose conversation the run goes on from."""
    max_revisions: Annotated[int, Field(ge=0, le=5)] = 1
    """How often a reviewer may send a specialist's work back."""
    deltas: bool = False
    """Stream the models' text from the start, for subscribers that ask for deltas."""
    judge: bool = True
    """Score the output of a run of a single agent too; a department's work is always scored."""


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
    """The slugs of the departments to run, in the order of their priority; without it, all active ones."""


def problem_with_params(params: JsonObject | None) -> str | None:
    """Why a run cannot have these parameters, or `None`."""
    if params is None:
        return None
    if problem := storable_params(params):
        return problem
    size = len(bson.encode(params))
    return f"takes {size} bytes as MongoDB stores it, more than {MAX_PARAMS_BYTES}" if size > MAX_PARAMS_BYTES else None


def storable_params(value: Any, depth: int = 0) -> str | None:  # noqa: ANN401 - any JSON value
    """Why parameters cannot be stored, or `None`."""
    if depth > 32:
        return "is nested deeper than 32 levels"
    if isinstance(value, float) and not math.isfinite(value):
        return "holds NaN or an infinity, which JSON does not have"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return "holds an integer beyond 2^53"
    if isinstance(value, str):
        return None if value.isascii() or storable(value) else "holds a lone surrogate"
    children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if isinstance(value, dict) and (problem := problem_with_keys(value)):
        return problem
    return next((problem for child in children if (problem := storable_params(child, depth + 1))), None)


def problem_with_keys(value: JsonObject) -> str | None:
    """Why an object's keys cannot be stored, or `None`."""
    if any("\0" in key or not storable(key) for key in value):
        return "has a key that cannot be stored"
    if "$id" in value and isinstance(value.get("$ref"), str):
        return "has $ref and $id in one object, which MongoDB takes for a reference"
    return None


def storable(text: str) -> bool:
    """Whether UTF-8 can hold a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

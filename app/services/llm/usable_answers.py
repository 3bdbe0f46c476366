"""The check that a model's answer is usable."""

from dataclasses import replace
from typing import Any

from app.services.llm.calls import Completion, ModelRequest
from app.services.llm.failures.errors import ModelAnswerEmpty, ModelAnswerTooLong, ModelContentRefused

MAX_ANSWER_CHARACTERS = 1_000_000
CONTENT_FILTERED = "content_filter"
"""The finish reason of an answer that the provider's content rules stopped."""
ABORTED = ("error", "ERROR", "network_error")
"""The finish reasons with which gateways and servers report that the model failed during its answer."""


def native_finish_of(response: Any) -> str | None:  # noqa: ANN401 - LiteLLM's response
    """Return the provider's own finish reason, if LiteLLM replaced it."""
    return (getattr(response.choices[0], "provider_specific_fields", None) or {}).get("native_finish_reason")


def usable(request: ModelRequest, completion: Completion) -> Completion:
    """Return the completion, if it is usable.

    Raises:
        ModelContentRefused: the provider withheld the answer.
        ModelAnswerEmpty: the answer has neither text nor a tool call.
        ModelAnswerTooLong: the text exceeds `MAX_ANSWER_CHARACTERS`.
    """
    if len(completion.text) > MAX_ANSWER_CHARACTERS:
        raise ModelAnswerTooLong(f"{MAX_ANSWER_CHARACTERS} characters")
    if completion.text.strip() or completion.tool_calls:
        return completion
    if request.response_format is not None and completion.reasoning and not completion.is_cut:
        return replace(completion, text=completion.reasoning)  # some servers return constrained answers as reasoning
    if completion.finish_reason == CONTENT_FILTERED:
        raise ModelContentRefused(
            f"The model {request.model!r} declined to answer: its provider does not allow the content."
        )
    raise ModelAnswerEmpty(request.model, is_cut=completion.is_cut)

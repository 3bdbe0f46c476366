"""The reasons why providers reject requests, recognized by their codes and messages.

Providers agree neither on statuses nor on codes: a missing credit is a 400, 402, 403 or 429, a prompt that is too long
a 400, 413 or 429. Their messages distinguish these. Patterns are matched against codes and messages in lower case.
"""

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import httpx
import openai

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import BaseLLMException

MAX_READ_CHARACTERS = 8_000
CODE_FIELDS = ("code", "type", "status", "reason", "param", "quotaId")
MESSAGE_FIELDS = ("message", "msg", "error", "detail", "raw")
STATUSES = (400, 401, 402, 403, 404, 409, 413, 422, 429, 500)
"""The statuses that a refusal comes with; local servers answer 500 where others answer 400."""

READ_ERRORS = (AttributeError, LookupError, TypeError, ValueError)
"""The errors of reading a response that has an unexpected form."""


class RefusalReason(StrEnum):
    """The reasons why a provider rejects a request, however often it is sent."""

    CONTEXT = "context"
    CONTENT = "content"
    QUOTA = "quota"
    SCHEMA = "schema"
    KEY = "key"
    MODEL = "model"


OVERRIDES_BY_STATUS: dict[int, tuple[RefusalReason, ...]] = {
    HTTPStatus.UNAUTHORIZED: (RefusalReason.QUOTA, RefusalReason.KEY),
    HTTPStatus.FORBIDDEN: (RefusalReason.QUOTA, RefusalReason.CONTENT, RefusalReason.KEY),
    HTTPStatus.TOO_MANY_REQUESTS: (RefusalReason.QUOTA, RefusalReason.CONTEXT),
    HTTPStatus.INTERNAL_SERVER_ERROR: (RefusalReason.CONTEXT,),
}
"""The reasons that override the meaning of a status: a limit that names a model is still a limit."""


@dataclass(frozen=True)
class ProviderError:
    """An error as the provider sent it: its HTTP status, its codes and its message, as far as they can be read."""

    status: int | None
    codes: str
    message: str

    @property
    def text(self) -> str:
        """The codes and the message, in lower case."""
        return f"{self.codes}\n{self.message}"[:MAX_READ_CHARACTERS].lower()


SIGNS: dict[RefusalReason, tuple[str, ...]] = {
    RefusalReason.QUOTA: (
        r"insufficient[_ ]?(quota|balance|credit|fund)",
        r"billing_(hard_limit|not_active|error)|billing (account|details)",
        r"credit balance is too low|out of credits|used all available credits|requires more credits",
        r"exceeded_current_quota|quota_?exceeded_?error|perday",
        r"(monthly|spending|usage) (spending )?limit|prepa(id|yment) (credits|balance)",
        r"arrearage|account is (suspended|overdue|inactive|deactivated)",
    ),
    RefusalReason.CONTEXT: (
        r"context_length_exceeded|exceed_context_size|context_window_exceeded|request_too_large|request too large for",
        r"maximum (context|prompt|input) length|model'?s (maximum )?context (length|window|limit)",
        r"exceeds? (the )?(available )?(model'?s )?(maximum )?context|input length exceeds|tokens exceed",
        r"(prompt|input) is too long|prompt: length|too many tokens|too large for model with",
        r"exceeds the maximum number of tokens|longer than the maximum model length|exceeded model token limit",
        r"range of input length should be|reduce the length of the (messages|prompt|input)",
        r"inputs` tokens \+ `max_new_tokens`|current length is \d+ while limit is",
    ),
    RefusalReason.CONTENT: (
        r"content[_ ]policy|content[_ ]filter|content management policy|responsibleaipolicy|usage policy",
        r"safety system|content exists risk|data_?inspection_?failed|prohibited[_ ]content|sensitive_words",
        r"flagged (as|by|for)|considered (high|sensitive|unsafe)|block_?reason|moderation_(blocked|error)",
        r"blocked by (our |the )?(safety|moderation)",
    ),
    RefusalReason.SCHEMA: (
        r"invalid schema|invalid_json_schema|invalid_function_parameters|input_schema|json_?schema|response_format",
        r"output_(format|config)\.?(format\.)?schema|response_?schema|guided_(json|grammar)|xgrammar",
        r"function_declarations\[\d+\]\.parameters|tools?[.\[]\d+\]?[.\w]*(parameters|schema)",
        r"(compile|invalid) grammar|failed to (parse|compile) (the )?(grammar|schema)",
    ),
    RefusalReason.KEY: (
        r"api_key_invalid|api[ _]key not (valid|found)|invalid[ _](x-)?api[ _-]?key|incorrect api key|api key expired",
        r"authentication[ _](fails|failed|error)|unrecognizedclient|invalid authentication",
    ),
    RefusalReason.MODEL: (
        r"model_not_(found|available|exist)|model_decommissioned|model[ _]not[ _](exist|found)|not a valid model",
        r"invalid model|unknown model|no such model",
        r"model\b.{0,200}\b(does not exist|not exist|is not found|not found|is not supported for generatecontent)",
        r"model\b.{0,200}\bhas been (decommissioned|deprecated|retired|shut ?down)",
    ),
}
PATTERNS = tuple((refusal, re.compile("|".join(signs))) for refusal, signs in SIGNS.items())
"""Checked in this order, because messages about exhausted credit also mention limits."""
NUMBER = r"(\d[\d,_]{2,11})"
LIMITS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:maximum|max)[\w\s']{{0,40}}(?:length|limit|tokens)[\w\s]{{0,20}}?(?: is| of|:)?\s*\(?{NUMBER}",
        rf"tokens? allowed[\s(]*{NUMBER}",
        rf"tokens > {NUMBER}",
        rf"context limit: \d+ \+ \d+ > {NUMBER}",
        rf"model with {NUMBER} maximum context",
        rf"available context size \({NUMBER}",
        rf"(?:token limit|limit is|limit:?|must be <=|n_ctx\W+) ?{NUMBER}",
    )
)
SENT = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:resulted in|requested(?: about)?|prompt contains|request (?:contains|has)) {NUMBER}",
        rf"(?:token count \(|too long: ){NUMBER}",
        rf"request \({NUMBER}",
        rf"(?:prompt|input) \(?length(?: of)?:? {NUMBER}",
        rf"context limit: {NUMBER}",
        rf"n_prompt_tokens\W+{NUMBER}",
    )
)


def refusal_in(error: ProviderError) -> RefusalReason | None:
    """Return the reason for the refusal, or `None` if the message matches no pattern."""
    if error.status is not None and error.status not in STATUSES:
        return None
    if error.status == HTTPStatus.PAYMENT_REQUIRED:
        return RefusalReason.QUOTA
    text = error.text
    found = next((refusal for refusal, pattern in PATTERNS if pattern.search(text)), None)
    if found not in OVERRIDES_BY_STATUS.get(error.status or 0, tuple(RefusalReason)):
        return None
    if found is RefusalReason.QUOTA and is_passing_quota(error.status, text):
        return None
    return found


def is_passing_quota(status: int | None, text: str) -> bool:
    """Return whether a quota is per minute: Gemini says "check your plan and billing details" for every quota."""
    return status == HTTPStatus.TOO_MANY_REQUESTS and "perminute" in text and "perday" not in text


def token_counts(error: ProviderError) -> tuple[int | None, int | None]:
    """Return the tokens that the model accepts and that the request had, if the provider states them."""
    text = error.text
    return first_number(LIMITS, text), first_number(SENT, text)


def first_number(patterns: Iterable[re.Pattern[str]], text: str) -> int | None:
    """Return the number that the first matching pattern finds."""
    found = next((match for pattern in patterns if (match := pattern.search(text))), None)
    return int(re.sub(r"\D", "", found[1])) if found else None


def is_unreadable_answer(causes: Iterable[BaseException]) -> bool:
    """Return whether the answer could not be read: LiteLLM reports that as 422 for Gemini, 400 for Ollama's streams."""
    known = list(causes)
    if any(isinstance(one, httpx.HTTPStatusError) for one in known):
        return False
    return any(
        isinstance(one, BaseLLMException)
        and HTTPStatus.BAD_REQUEST <= one.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
        and isinstance(one.__cause__ or one.__context__, READ_ERRORS)
        for one in known
    )


def provider_error(causes: Iterable[BaseException]) -> ProviderError | None:
    """Return the error of the provider among those that one call raised; LiteLLM's own often changes its status."""
    known = list(causes)
    if is_unreadable_answer(known):
        return None
    sources = (
        [
            item
            for item in known
            if isinstance(item, BaseLLMException) or type(item).__name__ == "MaskedHTTPStatusError"
        ],
        [item for item in known if isinstance(item, openai.APIError) and type(item).__module__.startswith("openai")],
        [item for item in known if isinstance(item, openai.APIError)],
    )
    for source in sources:
        for error in source:
            status = getattr(error, "status_code", None)
            body = body_of(error)
            if body is not None and (status is None or status >= HTTPStatus.BAD_REQUEST):
                codes, message = read_body(body)
                return ProviderError(status, codes, message)
    return None


def body_of(error: BaseException) -> object:
    """Return the provider's answer within an error, as a JSON value if it can be parsed, otherwise as text."""
    body = getattr(error, "body", None)
    if isinstance(body, dict) and body:
        return body
    text = getattr(error, "message", None) or str(error)
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if not isinstance(text, str) or not text.strip():
        return None
    if text[:2] in ("b'", 'b"'):
        text = unquoted(text)
    start = text.find("{")
    if start < 0:
        return without_prefix(text)
    try:
        return json.JSONDecoder().raw_decode(text[start:])[0]
    except (ValueError, RecursionError):
        return without_prefix(text)


def unquoted(text: str) -> str:
    """Return the text of bytes that were formatted with Python's `repr`."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text[2:-1]
    return value.decode(errors="replace") if isinstance(value, bytes) else text


def without_prefix(text: str) -> str:
    """Return the provider's message within LiteLLM's."""
    text = re.split(r"\nLiteLLM: model group|\.? ?Received Model Group=|\nmodel=", text, maxsplit=1)[0]
    return re.sub(r"^(?:litellm\.\w+: |\w+(?:Error|Exception)(?: - |: ))+", "", text).strip()


def read_body(body: object) -> tuple[str, str]:
    """Return the codes in an error's body, and its message."""
    codes: list[str] = []
    messages: list[str] = []
    collect(body, codes, messages, depth=0)
    message = " ".join(dict.fromkeys(messages)) or (body if isinstance(body, str) else json.dumps(body))
    return " ".join(dict.fromkeys(codes)), message


def collect(value: Any, codes: list[str], messages: list[str], depth: int) -> None:  # noqa: ANN401 - any JSON value
    """Gather codes and messages, however deep a provider nests them."""
    if depth > 6 or len(codes) + len(messages) > 50:
        return
    for item in value if isinstance(value, list) else ():
        collect(item, codes, messages, depth + 1)
    fields: JsonObject = value if isinstance(value, dict) else {}
    for name, item in fields.items():
        if isinstance(item, dict | list):
            collect(item, codes, messages, depth + 1)
        elif name in CODE_FIELDS and isinstance(item, str | int):
            codes.append(str(item))
        elif name in MESSAGE_FIELDS and isinstance(item, str):
            messages.append(item)

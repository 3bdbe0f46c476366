"""Refusals are recognized by providers' statuses and messages, over real HTTP and through LiteLLM."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from app.kit.json_values import JsonObject
from app.services.llm.failures.errors import ModelCallFailed, ModelContentRefused, ModelContextExceeded
from app.services.llm.failures.refusals import without_prefix
from tests.fixtures.gateways import MODEL, OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer, completion, serve_app, stop_server

Refuse = Callable[[int, JsonObject], Awaitable[str]]
KEY = "the-key-of-this-entry-0815"
OPENAI, VLLM, MISTRAL, DEEPSEEK = (
    "openai/gpt-4o",
    "hosted_vllm/m",
    "mistral/mistral-large-latest",
    "deepseek/deepseek-chat",
)
ANTHROPIC, GEMINI, OLLAMA = "anthropic/claude-3-haiku-20240307", "gemini/gemini-2.0-flash", "ollama_chat/llama3"


def openai_error(message: str, code: str | None = None, kind: str = "invalid_request_error") -> JsonObject:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_error(message: str, kind: str = "invalid_request_error") -> JsonObject:
    return {"type": "error", "error": {"type": kind, "message": message}}


def gemini_error(code: int, message: str, status: str, **details: object) -> JsonObject:
    return {"error": {"code": code, "message": message, "status": status, "details": [details]}}


def mistral_error(message: str, code: str) -> JsonObject:
    return {"object": "error", "message": message, "type": "invalid_request_error", "code": code}


BILLING = "You exceeded your current quota, please check your plan and billing details."
REFUSALS: list[tuple[str, int, JsonObject, str]] = [
    (
        OPENAI,
        400,
        openai_error(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
            "context_length_exceeded",
        ),
        "model-context-exceeded",
    ),
    (OPENAI, 400, openai_error("Your input exceeds the context window of this model."), "model-context-exceeded"),
    (
        OPENAI,
        429,
        openai_error("Request too large for gpt-4o on tokens per min (TPM): Limit 10000, Requested 20000.", "rate"),
        "model-context-exceeded",
    ),
    (ANTHROPIC, 400, anthropic_error("prompt is too long: 210000 tokens > 200000 maximum"), "model-context-exceeded"),
    (
        ANTHROPIC,
        413,
        anthropic_error("Request exceeds the maximum size", "request_too_large"),
        "model-context-exceeded",
    ),
    (
        ANTHROPIC,
        400,
        anthropic_error("input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease them"),
        "model-context-exceeded",
    ),
    (
        GEMINI,
        400,
        gemini_error(
            400,
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "INVALID_ARGUMENT",
        ),
        "model-context-exceeded",
    ),
    (
        MISTRAL,
        400,
        mistral_error(
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
            "3051",
        ),
        "model-context-exceeded",
    ),
    (
        VLLM,
        400,
        {
            "object": "error",
            "message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        },
        "model-context-exceeded",
    ),
    (OLLAMA, 500, {"error": "the input length exceeds the context length"}, "model-context-exceeded"),
    (
        OPENAI,
        400,
        openai_error("Invalid prompt: flagged as violating our usage policy.", "invalid_prompt"),
        "model-content-refused",
    ),
    (OPENAI, 400, openai_error("Your request was rejected.", "content_policy_violation"), "model-content-refused"),
    (ANTHROPIC, 400, anthropic_error("Output blocked by content filtering policy"), "model-content-refused"),
    (DEEPSEEK, 400, openai_error("Content Exists Risk"), "model-content-refused"),
    (OPENAI, 429, openai_error(BILLING, "insufficient_quota", "insufficient_quota"), "model-quota-exhausted"),
    (
        OPENAI,
        400,
        openai_error("Billing hard limit has been reached", "billing_hard_limit_reached"),
        "model-quota-exhausted",
    ),
    (
        ANTHROPIC,
        400,
        anthropic_error("Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."),
        "model-quota-exhausted",
    ),
    (
        DEEPSEEK,
        402,
        openai_error("Insufficient Balance", "invalid_request_error", "unknown_error"),
        "model-quota-exhausted",
    ),
    (
        GEMINI,
        429,
        gemini_error(429, BILLING, "RESOURCE_EXHAUSTED", violations=[{"quotaId": "GenerateRequestsPerDayPerProject"}]),
        "model-quota-exhausted",
    ),
    (
        GEMINI,
        429,
        gemini_error(
            429, BILLING, "RESOURCE_EXHAUSTED", violations=[{"quotaId": "GenerateRequestsPerMinutePerProject"}]
        ),
        "model-rate-limited",
    ),
    (
        OPENAI,
        429,
        openai_error("Rate limit reached for gpt-4o on requests per min.", "rate_limit_exceeded"),
        "model-rate-limited",
    ),
    (MISTRAL, 429, {"message": "Service tier capacity exceeded for this model."}, "model-rate-limited"),
    (
        OPENAI,
        400,
        openai_error("Invalid schema for function 'count': 'oneOf' is not permitted.", "invalid_function_parameters"),
        "model-schema-refused",
    ),
    (
        OPENAI,
        400,
        openai_error("Invalid schema for response_format 'plan': 'minimum' is not permitted."),
        "model-schema-refused",
    ),
    (ANTHROPIC, 400, anthropic_error("tools.0.custom.input_schema.type: Field required"), "model-schema-refused"),
    (
        GEMINI,
        400,
        gemini_error(
            400,
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties: should be non-empty",
            "INVALID_ARGUMENT",
        ),
        "model-schema-refused",
    ),
    (DEEPSEEK, 400, openai_error("This response_format type is unavailable now"), "model-schema-refused"),
    (
        OPENAI,
        401,
        openai_error("Incorrect API key provided: sk-abc*****wxyz.", "invalid_api_key"),
        "model-access-denied",
    ),
    (ANTHROPIC, 401, anthropic_error("invalid x-api-key", "authentication_error"), "model-access-denied"),
    (
        GEMINI,
        400,
        gemini_error(
            400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", reason="API_KEY_INVALID"
        ),
        "model-access-denied",
    ),
    (DEEPSEEK, 401, openai_error("Authentication Fails (no such user)"), "model-access-denied"),
    (MISTRAL, 401, {"detail": "Unauthorized"}, "model-access-denied"),
    (
        OPENAI,
        403,
        openai_error("Project `p` does not have access to model `gpt-4o`", "model_not_found"),
        "model-access-denied",
    ),
    (
        OPENAI,
        404,
        openai_error("The model `gpt-99` does not exist or you do not have access to it.", "model_not_found"),
        "model-not-found",
    ),
    (ANTHROPIC, 404, anthropic_error("model: claude-sonnet-4.5", "not_found_error"), "model-not-found"),
    (
        GEMINI,
        404,
        gemini_error(404, "models/gemini-9 is not found for API version v1beta", "NOT_FOUND"),
        "model-not-found",
    ),
    (MISTRAL, 400, mistral_error("Invalid model: mistral-huge", "1500"), "model-not-found"),
    (DEEPSEEK, 400, openai_error("Model Not Exist"), "model-not-found"),
    (VLLM, 404, {"object": "error", "message": "The model `m` does not exist.", "code": 404}, "model-not-found"),
    (OLLAMA, 404, {"error": 'model "llama3" not found, try pulling it first'}, "model-not-found"),
    (
        VLLM,
        400,
        {"object": "error", "message": "top_p must be in (0, 1]. Your prompt said: rate limit"},
        "model-request-refused",
    ),
    (ANTHROPIC, 529, anthropic_error("Overloaded", "overloaded_error"), "model-unavailable"),
]
PASSING = {"model-rate-limited", "model-unavailable"}


@pytest.fixture
async def refusing() -> AsyncGenerator[Refuse]:
    """Start a provider that answers everything with one error; its address."""
    reply: dict[str, Response] = {}

    async def answer(_: Request) -> Response:
        return reply["now"]

    running, task, url = await serve_app(Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])]))

    async def refuse(status: int, body: JsonObject) -> str:
        reply["now"] = JSONResponse(body, status_code=status)
        return url

    yield refuse
    await stop_server(running, task)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "status", "body", "code"), REFUSALS, ids=lambda one: str(one)[:50])
async def test_a_refusal_has_a_code_of_its_own_advice_and_the_providers_words_apart(
    open_gateway: OpenGateway, refusing: Refuse, model: str, status: int, body: JsonObject, code: str
) -> None:
    url = await refusing(status, body)
    base = url if model in (ANTHROPIC, GEMINI, OLLAMA) else f"{url}/v1"
    params = {"model": model, "api_base": base, "api_key": KEY}
    gateway = open_gateway({"model_name": MODEL, "litellm_params": params})

    for live in (False, True):
        with capture_logs() as lines, pytest.raises(ModelCallFailed) as caught:
            await gateway.complete(request(on_delta=str if live else None))

        failure = caught.value
        assert (failure.code, failure.is_passing) == (code, code in PASSING)
        assert failure.provider_message
        assert failure.provider_message not in failure.message
        [line] = [one for one in lines if one["event"] == "model-call-failed"]
        assert line["providerMessage"] == failure.provider_message
        assert code == "model-unavailable" or f"(HTTP {status})" in failure.message


@pytest.mark.parametrize(
    ("model", "body", "limit", "sent"),
    [
        (OPENAI, REFUSALS[0][2], 128_000, 130_000),
        (ANTHROPIC, REFUSALS[3][2], 200_000, 210_000),
        (ANTHROPIC, REFUSALS[5][2], 200_000, 188_240),
        (GEMINI, REFUSALS[6][2], 1_048_576, 1_200_000),
        (MISTRAL, REFUSALS[7][2], 32_768, 40_000),
        (VLLM, REFUSALS[8][2], 4_096, 5_000),
        (OLLAMA, REFUSALS[9][2], None, None),
    ],
    ids=lambda one: str(one)[:40],
)
async def test_an_overflow_reports_the_models_limit_if_the_provider_states_it(
    open_gateway: OpenGateway, refusing: Refuse, model: str, body: JsonObject, limit: int | None, sent: int | None
) -> None:
    url = await refusing(400, body)
    base = url if model in (ANTHROPIC, GEMINI, OLLAMA) else f"{url}/v1"
    params = {"model": model, "api_base": base, "api_key": KEY}
    gateway = open_gateway({"model_name": MODEL, "litellm_params": params})

    with pytest.raises(ModelContextExceeded) as caught:
        await gateway.complete(request())

    assert (caught.value.limit_tokens, caught.value.sent_tokens) == (limit, sent)


@pytest.mark.parametrize("live", [False, True])
async def test_an_answer_that_a_filter_left_empty_is_a_refusal_and_paid_for(
    open_gateway: OpenGateway, model_server: ModelServer, live: bool
) -> None:
    model_server.on("work", completion("", finish_reason="content_filter"))

    with pytest.raises(ModelContentRefused) as caught:
        await open_gateway(entry(model_server)).complete(request(on_delta=str if live else None))

    assert (caught.value.code, caught.value.is_passing) == ("model-content-refused", False)
    assert [call.usage.output for call in caught.value.calls] == [5]


async def test_the_entrys_own_key_is_removed_from_the_providers_words(
    open_gateway: OpenGateway, refusing: Refuse
) -> None:
    url = await refusing(401, openai_error(f"The key {KEY} is not known here."))
    gateway = open_gateway(
        {"model_name": MODEL, "litellm_params": {"model": OPENAI, "api_base": f"{url}/v1", "api_key": KEY}}
    )

    with capture_logs() as lines, pytest.raises(ModelCallFailed) as caught:
        await gateway.complete(request())

    assert caught.value.provider_message == "The key [removed] is not known here."
    assert KEY not in str(lines)


@pytest.mark.parametrize("piece", ["\n", ". ", "aError: ", "litellm.a: "])
def test_a_provider_s_words_are_found_in_time_in_proportion_to_the_text(piece: str) -> None:
    started = time.thread_time()

    without_prefix(piece * (100_000 // len(piece)))

    assert time.thread_time() - started < 0.5

"""Redacted provider messages contain no secrets and no long prompts."""

import time

import pytest

from app.services.llm.failures.redaction import MAX_CHARACTERS, redacted, secrets_in


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklmnopqrstuvwxyz",
        "sk-ant-api03-abc_DEF-123456",
        "sk-proj-****************wxyz",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "gsk_abcdefgh12345678",
        "xai-abcdefgh12345678",
        "hf_abcdefgh12345678",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "0123456789abcdef0123456789abcdef",
        "Bearer abc.def-ghi",
    ],
)
@pytest.mark.parametrize("around", ["Incorrect API key provided: {}. See the docs.", "({})", "key={}&x=1", '"{}"'])
def test_texts_that_look_like_a_secret_are_removed(secret: str, around: str) -> None:
    left = redacted(around.format(secret))

    assert secret not in left
    assert secret.split()[-1] not in left
    assert "[removed]" in left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"api_key": "hunter22"}', '{"api_key": "[removed]"}'),
        ("x-api-key: hunter22, try again", "x-api-key: [removed], try again"),
        ("https://user:hunter22@proxy.example/v1", "https://[removed]@proxy.example/v1"),
        ("GET /v1beta/models?key=hunter22&alt=sse", "GET /v1beta/models?key=[removed]&alt=sse"),
        ("The model `gpt-4o` does not exist.", "The model `gpt-4o` does not exist."),
        (
            "connect to a:443 ssl:<ssl.SSLContext object at 0x7f5a> [refused]",
            "connect to a:443 ssl:<ssl.SSLContext> [refused]",
        ),
        ("request id req_011CSHoEeqs5C35K2UUqR7Fy", "request id req_011CSHoEeqs5C35K2UUqR7Fy"),
    ],
)
def test_named_secrets_are_removed_and_the_rest_stays(text: str, left: str) -> None:
    assert redacted(text) == left


def test_known_secrets_are_removed_whatever_they_look_like() -> None:
    params = {"model": "openai/x", "api_key": "plain words", "extra_headers": {"Authorization": "Custom opensesame"}}

    left = redacted("The key 'plain words' or opensesame is wrong.", secrets_in(params))

    assert left == "The key '[removed]' or [removed] is wrong."


def test_long_quotations_keep_their_beginning() -> None:
    left = redacted(f"The model's input 'Once upon a time {'and so on ' * 100}' isn't valid.")

    assert left.startswith("The model's input 'Once upon a time and so on")
    assert left.endswith("more characters]' isn't valid.")
    assert len(left) < 250


def test_a_long_text_is_bounded_and_one_line() -> None:
    left = redacted("word \n" * 1_000_000)

    assert len(left) < MAX_CHARACTERS + 50
    assert "\n" not in left


@pytest.mark.parametrize(
    "piece",
    ["a-", "a-1", "-eyJaaaaaaa", "secret ", "-----BEGIN A-----", '"\\a', "token:", "//a:", "?a=", "sk-a ", "key %"],
)
def test_removing_takes_time_in_proportion_to_the_text(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    started = time.thread_time()

    redacted(text)

    assert time.thread_time() - started < 0.5

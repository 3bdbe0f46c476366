"""Redaction of providers' messages: secrets are removed, and quotations of prompts are bounded."""

import re
from collections.abc import Iterable, Iterator

from app.kit.json_values import JsonObject

MAX_CHARACTERS = 1_000
MAX_QUOTE_CHARACTERS = 120
MIN_SECRET_CHARACTERS = 6
REMOVED = "[removed]"
SECRET_NAME = re.compile(r"(?i)key|secret|token|password|credential|authorization|cookie|auth$")

# A pattern that allows hyphens starts at the beginning of a run: with `\b` each hyphen would start another search
# to the end of the run, which takes quadratic time.
KEY_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)\b(?:bearer|basic|token)\s+[\w.~+/=*-]{6,}",
        r"(?i)\b(?:sk|pk|rk|gsk|xai|pplx|r8|hf|nvapi|fw|sess|org|proj|tgp_v1|csk|co|ghp|gho|glpat|xox[abp])[-_][\w*.-]{6,}",
        r"\bAIza[\w*.-]{6,}",
        r"\b(?:AKIA|ASIA)[A-Z0-9*]{8,}",
        r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]+)?",
        r"-----BEGIN [A-Z ]+-----[\s\S]*?(?:-----END [A-Z ]+-----|$)",
        r"(?<![\w-])(?!req_|chatcmpl-|msg_)(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{32,}",
    )
)
NAMED_SECRET = re.compile(
    r"(?i)((?:api[-_ ]?key|x-api-key|x-goog-api-key|authorization|access[-_ ]?token|secret|password|signature)"
    r"(?:[\"']?\s*(?:[:=]|provided:)\s*|\s*%3d)[\"'`]?)(?!\s*\[removed\])([^\s\"'`,;&})]{4,})"
)
MEMORY_ADDRESS = re.compile(r" object at 0x[0-9A-Fa-f]+(?=>)")
"""Memory addresses as HTTP clients print them, such as `ssl:<ssl.SSLContext object at 0x7f…>`."""
URL_CREDENTIALS = re.compile(r"(?i)(https?://)[^\s/@]+@")
URL_KEY = re.compile(r"(?i)([?&](?:key|api[-_]?key|token|sig|signature)=)[^\s&\"'`]+")
QUOTES = tuple(
    re.compile(rf"(?<!\w){mark}((?:[^{mark}\\]|\\.){{{MAX_QUOTE_CHARACTERS + 1},}}){mark}(?!\w)", re.DOTALL)
    for mark in ('"', "'", "`")
)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a provider's message on one line of bounded length, without memory addresses, secrets or what looks like
    one.

    Long quotations, which repeat the request, are cut to their beginning.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_CHARACTERS:
            text = text.replace(secret, REMOVED)
    text = text[: 20 * MAX_CHARACTERS]  # patterns over megabytes would block the event loop
    text = MEMORY_ADDRESS.sub("", text)
    text = URL_CREDENTIALS.sub(rf"\1{REMOVED}@", text)
    text = URL_KEY.sub(rf"\1{REMOVED}", text)
    for pattern in KEY_PATTERNS:
        text = pattern.sub(REMOVED, text)
    text = NAMED_SECRET.sub(rf"\1{REMOVED}", text)
    for quote in QUOTES:
        text = quote.sub(shortened_quote, text)
    text = " ".join(text.split())
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} [… {len(text) - MAX_CHARACTERS} more characters]"


def shortened_quote(found: re.Match[str]) -> str:
    """Return a quotation cut to its beginning."""
    mark, quoted = found[0][0], found[1]
    return f"{mark}{quoted[:MAX_QUOTE_CHARACTERS]} [… {len(quoted) - MAX_QUOTE_CHARACTERS} more characters]{mark}"


def secrets_in(params: JsonObject) -> Iterator[str]:
    """Yield the secrets in the parameters of a model's entry: its keys, tokens and passwords, headers included."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from secrets_in(value)
        elif isinstance(value, str) and SECRET_NAME.search(name):
            yield value
            yield value.split()[-1] if value.split() else value

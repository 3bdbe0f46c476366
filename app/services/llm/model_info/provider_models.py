"""The providers' models: a catalog name's id at its provider, its retirement and its successor.

All of it comes from LiteLLM's own table. A catalog name may differ from the provider's spelling
(`claude-sonnet-4.5` is `claude-sonnet-4-5` there), or lack the date of a release.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import LISTED_MODELS

RELEASE = r"-(\d{8}|\d{4}-\d\d-\d\d|\d{4}|latest)"
FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "anthropic": (
        ("opus", r"claude-opus-(\d{1,2})(?:-(\d{1,2}))?"),
        ("haiku", r"claude-haiku-(\d{1,2})(?:-(\d{1,2}))?"),
        ("", r"claude-sonnet-(\d{1,2})(?:-(\d{1,2}))?"),
    ),
    "openai": (("", r"gpt-(\d+)(?:\.(\d+))?"),),
    "gemini": (("pro", r"gemini-(\d+)(?:\.(\d+))?-pro"), ("", r"gemini-(\d+)(?:\.(\d+))?-flash")),
}
"""A provider's kinds of models: the word that marks one, and the pattern of its ids with the version in groups."""
SOON = timedelta(days=60)
"""A model that is retired sooner is not recommended."""


@dataclass(frozen=True)
class ProviderModel:
    """A model at its provider; `retires` is the date of its retirement, if known."""

    id: str
    retires: date | None
    is_gone: bool = False
    """The provider no longer has it, though others still serve it."""

    def is_retired(self, today: date) -> bool:
        """Return whether the provider refuses it."""
        return self.is_gone or (self.retires is not None and self.retires <= today)


def provider_model(provider: str, name: str) -> ProviderModel:
    """Return the provider's model for a name; the name itself if LiteLLM's table has no similar one."""
    spellings = dict.fromkeys((name, name.replace(".", "-")))
    for spelling in spellings:
        for key in (f"{provider}/{spelling}", spelling):
            row = LISTED_MODELS.get(key)
            if row and row.get("litellm_provider") == provider:
                return ProviderModel(spelling, retirement_of(row))
    releases = [found for spelling in spellings for found in releases_of(provider, spelling)]
    if releases:
        newest, row = max(releases, key=lambda one: one[0])
        return ProviderModel(newest, retirement_of(row))
    elsewhere = {bare_name(key) for key in LISTED_MODELS}
    return ProviderModel(name, None, is_gone=any(spelling in elsewhere for spelling in spellings))


def releases_of(provider: str, name: str) -> Iterator[tuple[str, JsonObject]]:
    """Yield a provider's dated releases of a model."""
    form = re.compile(f"(?:{provider}/)?({re.escape(name)}{RELEASE})")
    for key, row in LISTED_MODELS.items():
        found = form.fullmatch(key)
        if found and row.get("litellm_provider") == provider:
            yield found[1], row


def bare_name(key: str) -> str:
    """Return a model's name in LiteLLM's table without its provider."""
    return key.rpartition("/")[2].partition("@")[0]


def retirement_of(row: JsonObject) -> date | None:
    """Return the date in a row of LiteLLM's table on which its model is retired."""
    try:
        return date.fromisoformat(str(row.get("deprecation_date")))
    except ValueError:
        return None


def current_model(provider: str, name: str = "") -> str | None:
    """Return a provider's current model of the kind of a name; `None` for unknown providers."""
    for mark, form in FAMILIES.get(provider, ()):
        if mark in name:
            return nearest_of(provider, re.compile(f"(?:{provider}/)?({form})"))
    return None


def nearest_of(provider: str, form: re.Pattern[str]) -> str | None:
    """Return the provider's id with the lowest version that matches a pattern, calls tools, and is not about to be
    retired. It differs least from the model that it replaces.
    """
    found: dict[tuple[int, int], str] = {}
    for key, row in LISTED_MODELS.items():
        match = form.fullmatch(key)
        if match is None or row.get("litellm_provider") != provider or not row.get("supports_function_calling"):
            continue
        retires = retirement_of(row)
        if retires is None or retires > today_utc() + SOON:
            found[int(match[2]), int(match[3] or 0)] = match[1]
    return f"{provider}/{found[min(found)]}" if found else None


def config_line(name: str, model: str | None) -> str:
    """Return the line of `model_list` that puts a model behind a catalog name."""
    return f"- {{model_name: {name}, litellm_params: {{model: {model or 'PROVIDER/MODEL'}}}}}"


def today_utc() -> date:
    """Today's date, the same for all processes."""
    return datetime.now(UTC).date()

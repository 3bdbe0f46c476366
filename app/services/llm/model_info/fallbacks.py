"""The configured names that a call can reach through the Router's fallbacks."""

from typing import Any

from app.kit.json_values import JsonObject

FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def names_reached(model: str, router_settings: JsonObject) -> list[str]:
    """Return a configured name and the names that the Router falls back to, each once."""
    found = [model]
    for name in found:  # it grows
        found += [other for other in fallbacks_of(name, router_settings) if other not in found]
    return found


def fallbacks_of(model: str, router_settings: JsonObject) -> list[str]:
    """Return the names that the Router falls back to directly."""
    rules: list[Any] = [rule for name in FALLBACKS for rule in router_settings.get(name) or ()]
    named = [other for rule in rules if isinstance(rule, dict) for other in rule.get(model) or rule.get("*") or ()]
    defaults: list[Any] = router_settings.get("default_fallbacks") or []
    return [other for other in (*named, *defaults) if isinstance(other, str)]

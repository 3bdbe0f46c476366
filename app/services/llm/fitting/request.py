"""Fitting a request to the deployment that answers it, once the Router has chosen one.

A name can have several entries, and a fallback can be another provider's model, so requests are fitted at the
last moment, for each attempt. The request itself is not changed; nothing here modifies an argument in place.
"""

from collections.abc import Callable

from app.kit.json_values import JsonObject
from app.services.llm.fitting.cache_markers import fit_cache_markers
from app.services.llm.fitting.call_ids import fit_call_ids
from app.services.llm.fitting.formats import fit_format
from app.services.llm.fitting.message_order import fit_order
from app.services.llm.fitting.parameters import fit_parameters
from app.services.llm.fitting.tools import fit_tools
from app.services.llm.messages.turns import fit_turns
from app.services.llm.model_info.capabilities import Capabilities

Fitter = Callable[[JsonObject, Capabilities], JsonObject]

FITTERS: tuple[Fitter, ...] = (
    fit_turns,
    fit_tools,
    fit_format,
    fit_order,
    fit_call_ids,
    fit_parameters,
    fit_cache_markers,
)
"""The steps, each applied to the result of the previous one."""


def fit_request(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments of a call in the form that the model accepts."""
    for fit in FITTERS:
        arguments = fit(arguments, model)
    return arguments

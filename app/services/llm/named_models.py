"""The models that settings name, held against those that there are."""

import structlog

from app.errors import StartupError
from app.services.llm.errors import ModelNotConfigured
from app.services.llm.gateway import ModelGateway
from app.settings import Settings

TIERS = ("simple_model", "standard_model", "complex_model")

log = structlog.get_logger(__name__)


def check_named_models(settings: Settings, models: ModelGateway) -> None:
    """Refuse a model of a complexity that cannot be called, and warn of allowed ones that cannot.

    Only what was set is checked: the defaults name models of the catalog that need not be configured.

    Raises:
        StartupError: `SIMPLE_MODEL`, `STANDARD_MODEL` or `COMPLEX_MODEL` names a model without a usable entry.
    """
    for field in TIERS:
        name = getattr(settings, field)
        if field in settings.model_fields_set and (problem := problem_of(models, name)):
            raise StartupError(f"{field.upper()} is wrong: {problem}")
    if "allowed_models" in settings.model_fields_set:
        for name in settings.allowed_models:
            if problem := problem_of(models, name):
                log.warning("allowed-model-unusable", variable="ALLOWED_MODELS", model=name, reason=problem)


def problem_of(models: ModelGateway, name: str) -> str | None:
    """Why a model cannot be called; `None` if it can."""
    try:
        models.check(name)
    except ModelNotConfigured as error:
        return error.message
    return None

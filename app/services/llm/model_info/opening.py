"""Opening of a process's models, and the check of the models that settings name."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from app.errors import StartupError
from app.services.llm.calls import CallLimits, RunPurpose
from app.services.llm.failures.errors import ModelCallFailed, ModelNotConfigured, codes_of
from app.services.llm.gateway import ModelGateway
from app.services.llm.litellm_patches.inline_executor import use_inline_executor
from app.services.llm.model_info.model_names import is_wildcard
from app.services.llm.model_info.model_table import ModelTable
from app.services.llm.purpose_models import PurposeModels
from app.settings import CATALOG_MODELS, Settings
from app.telemetry.run_metrics import show_models

TIERS = ("simple_model", "standard_model", "complex_model")
PURPOSES = tuple(purpose.value for purpose in RunPurpose)

log = structlog.get_logger(__name__)


def check_named_models(settings: Settings, models: ModelGateway) -> None:
    """Refuse a model of a complexity or a purpose that cannot be called, and warn of allowed ones that cannot.

    Only settings that were set are checked: the defaults name catalog models that need not be configured.

    Raises:
        StartupError: `SIMPLE_MODEL`, `STANDARD_MODEL`, `COMPLEX_MODEL` or `PURPOSE_MODELS` names a model without a
            usable entry, or there is no such purpose.
    """
    for field in TIERS:
        name = getattr(settings, field)
        if field in settings.model_fields_set and (problem := problem_of(models, name)):
            raise StartupError(f"{field.upper()} is invalid: {problem}")
    for purpose, name in settings.purpose_models.items():
        if purpose not in PURPOSES:
            raise StartupError(
                f"PURPOSE_MODELS is invalid: there is no purpose {purpose!r}; use {', '.join(PURPOSES)}."
            )
        if problem := problem_of(models, name):
            known = ", ".join(model.name for model in models.describe() if model.usable)
            raise StartupError(f"PURPOSE_MODELS is invalid for {purpose}: {problem} Usable names: {known}.")
    if "allowed_models" in settings.model_fields_set:
        for name in settings.allowed_models:
            if not is_wildcard(name) and (problem := problem_of(models, name)):
                log.warning("allowed-model-unusable", variable="ALLOWED_MODELS", model=name, reason=problem)


def purpose_models(settings: Settings, models: ModelGateway) -> PurposeModels:
    """Return the model for each purpose of a call, by checked settings."""
    judges = [name for name in (settings.simple_model, settings.standard_model) if problem_of(models, name) is None]
    chosen = {RunPurpose(purpose): name for purpose, name in settings.purpose_models.items()}
    return PurposeModels(chosen, tuple(judges), models.record_name)


def problem_of(models: ModelGateway, name: str) -> str | None:
    """Return the reason why a model cannot be called; `None` if it can."""
    try:
        models.check(name)
    except ModelNotConfigured as error:
        return error.message
    return None


@asynccontextmanager
async def open_models(settings: Settings, table: ModelTable) -> AsyncGenerator[ModelGateway]:
    """Open the models that can be called, and name in the log those that cannot.

    Raises:
        StartupError: a setting names a model that cannot be called, or LiteLLM refuses the table.
    """
    if settings.litellm_patches == "on":
        use_inline_executor()
    models = ModelGateway(table, call_limits(settings), performance_patches=settings.litellm_patches == "on")
    try:
        check_named_models(settings, models)
        log.info("models-loaded", source=table.source, names=list(table.names))
        show_models(
            [models.record_name(name) for name in table.names if not is_wildcard(name)],
            PURPOSES,
            codes_of(ModelCallFailed),
        )
        if missing := [name for name in CATALOG_MODELS if table.providers and not models.has(name)]:
            log.warning("catalog-models-unavailable", models=missing, advice=table.reason_for_absence(missing[0]))
        for model in models.describe():
            if not model.usable:
                log.warning("model-unusable", model=model.name, problem=model.problem)
        yield models
    finally:
        await models.close()


def call_limits(settings: Settings) -> CallLimits:
    """Return the time limits of model calls."""
    return CallLimits(settings.model_first_byte_seconds, settings.model_idle_seconds, settings.model_total_seconds)

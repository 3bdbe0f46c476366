"""The configured models."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter
from pydantic import ConfigDict

from app.dependencies import DEFAULT_PAGE, Cursor, Limit, ModelsDep, ViewerRole
from app.kit.paging import NameSort, slice_page
from app.kit.schemas import ApiModel
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute

router = APIRouter(prefix="/models", tags=["models"], route_class=StrictRoute)


class ModelRead(ApiModel):
    """A model that runs may name."""

    name: str
    """The catalog name, by which agents and runs choose the model."""
    usable: bool
    """Whether the model can be called."""
    problem: str | None
    """The reason why the model cannot be called; `null` if it can."""
    price_known: bool
    """Whether the cost of calls can be computed."""
    input_cost_per_token: float | None
    """The price of an input token in US dollars; `null` if unknown."""
    output_cost_per_token: float | None
    """The price of an output token in US dollars; `null` if unknown."""
    retires_on: date | None
    """The day on which the provider retires the model; `null` if unknown."""


class ModelList(PageRead[ModelRead]):
    """A page of the configured models."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    source: str
    """Where the models are configured: the path of `MODELS_CONFIG`, or the environment."""


@router.get(
    "", operation_id="listModels", response_description="The models of the page.", responses=problem_responses(403)
)
async def list_models(
    models: ModelsDep,
    _: ViewerRole,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[NameSort | None, sort_query(name="its name")] = None,
) -> ModelList:
    """List the configured models, by default in the order of the configuration."""
    found = [ModelRead.model_validate(model) for model in models.describe()]
    shown, next_cursor = slice_page(found, limit, cursor, sort)
    return ModelList(items=list(shown), total=len(found), next_cursor=next_cursor, source=models.table.source)

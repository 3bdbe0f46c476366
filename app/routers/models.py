"""The models that runs can use."""

from fastapi import APIRouter

from app.dependencies import ServicesDep, ViewerRole
from app.routers.problems import problem_responses
from app.routers.strict_input import StrictRoute
from app.services.catalog.shapes import Shape

router = APIRouter(prefix="/models", tags=["models"], route_class=StrictRoute)


class ModelRead(Shape):
    """A catalogue name: whether it can be called, why not, and its price in US dollars a token, if known."""

    name: str
    usable: bool
    problem: str | None
    price_known: bool
    input_cost_per_token: float | None
    output_cost_per_token: float | None


class ModelList(Shape):
    """All configured names, and where they come from; always one page."""

    items: list[ModelRead]
    total: int
    next_cursor: str | None = None
    source: str


@router.get("", operation_id="listModels", responses=problem_responses(403))
async def list_models(services: ServicesDep, _: ViewerRole) -> ModelList:
    """List the models that are set up."""
    models = [ModelRead.model_validate(model) for model in services.models.describe()]
    return ModelList(items=models, total=len(models), source=services.models.table.source)

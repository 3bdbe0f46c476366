"""The models that runs can use."""

from datetime import date

from fastapi import APIRouter

from app.dependencies import DEFAULT_PAGE, Cursor, Limit, ServicesDep, ViewerRole
from app.kit.paging import slice_page
from app.routers.http.pages import PageRead
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.catalog.schemas import ApiModel

router = APIRouter(prefix="/models", tags=["models"], route_class=StrictRoute)


class ModelRead(ApiModel):
    """A catalog name: whether it can be called, why not, its price in US dollars a token, and when it is retired."""

    name: str
    usable: bool
    problem: str | None
    price_known: bool
    input_cost_per_token: float | None
    output_cost_per_token: float | None
    retires_on: date | None


class ModelList(PageRead[ModelRead]):
    """Configured names, and where they come from."""

    source: str


@router.get("", operation_id="listModels", responses=problem_responses(403))
async def list_models(
    services: ServicesDep, _: ViewerRole, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> ModelList:
    """List the models that are set up."""
    models = [ModelRead.model_validate(model) for model in services.models.describe()]
    shown, next_cursor = slice_page([model.name for model in models], limit, cursor)
    source = services.models.table.source
    return ModelList(items=models[shown], total=len(models), next_cursor=next_cursor, source=source)

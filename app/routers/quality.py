"""The weights of quality dimensions."""

from fastapi import APIRouter, Response

from app.dependencies import ServiceAdmin, ViewerRole, WeightsDep
from app.routers.http.entries import IfMatch, answer_entry
from app.routers.http.path_parameters import WeightsPath
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.quality.weights import WeightsRead, WeightsUpdate

router = APIRouter(prefix="/quality", tags=["quality"], route_class=StrictRoute)


@router.get(
    "/weights",
    operation_id="listQualityWeights",
    response_description="The weights by department.",
    responses=problem_responses(403),
)
async def list_quality_weights(weights: WeightsDep, _: ViewerRole) -> dict[str, WeightsRead]:
    """List the weights by department: `default`, and each department with its own weights."""
    return await weights.list_weights()


@router.get(
    "/weights/{slug}",
    operation_id="getQualityWeights",
    response_description="The weights.",
    responses=problem_responses(403, 404),
)
async def get_quality_weights(slug: WeightsPath, weights: WeightsDep, _: ViewerRole, response: Response) -> WeightsRead:
    """Read the weights for a department's work: its own, else the default."""
    return answer_entry(await weights.get_weights(slug), response)


@router.put(
    "/weights/{slug}",
    operation_id="setQualityWeights",
    response_description="The new weights.",
    responses=problem_responses(*BODY_PROBLEMS, 403, 404, 412),
)
async def set_quality_weights(
    slug: WeightsPath,
    body: WeightsUpdate,
    weights: WeightsDep,
    caller: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> WeightsRead:
    """Set the weights of a department, or of `default`. The next run is scored with them."""
    return answer_entry(await weights.set_weights(slug, body, if_match, caller.actor), response)


@router.delete(
    "/weights/{slug}",
    operation_id="resetQualityWeights",
    response_description="The department's own weights have been removed.",
    status_code=204,
    responses=problem_responses(403, 404, 412),
)
async def reset_quality_weights(
    slug: WeightsPath, weights: WeightsDep, caller: ServiceAdmin, if_match: IfMatch = None
) -> None:
    """Remove the stored weights of a department, which then uses the built-in ones again."""
    await weights.reset_weights(slug, if_match, caller.actor)

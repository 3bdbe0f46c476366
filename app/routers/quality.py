"""Quality: the weights that departments' work is scored with."""

from fastapi import APIRouter, Response

from app.dependencies import ServiceAdmin, ViewerRole, WeightsDep
from app.routers.http.entries import IfMatch, answer_entry
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.quality.weights import WeightsRead, WeightsUpdate

router = APIRouter(prefix="/quality", tags=["quality"], route_class=StrictRoute)


@router.get("/weights", operation_id="listQualityWeights", responses=problem_responses(403))
async def list_quality_weights(weights: WeightsDep, _: ViewerRole) -> dict[str, WeightsRead]:
    """List the weights by department: `default`, and each department that has weights of its own."""
    return await weights.list_weights()


@router.get("/weights/{slug}", operation_id="getQualityWeights", responses=problem_responses(403, 404))
async def get_quality_weights(slug: str, weights: WeightsDep, _: ViewerRole, response: Response) -> WeightsRead:
    """Read the weights that a department's work is scored with: its own, else the default."""
    return answer_entry(await weights.get_weights(slug), response)


@router.put(
    "/weights/{slug}", operation_id="setQualityWeights", responses=problem_responses(*BODY_PROBLEMS, 403, 404, 412)
)
async def set_quality_weights(
    slug: str,
    body: WeightsUpdate,
    weights: WeightsDep,
    _: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> WeightsRead:
    """Give a department, or `default`, weights of its own; the next run is scored with them."""
    return answer_entry(await weights.set_weights(slug, body, if_match), response)


@router.delete(
    "/weights/{slug}", operation_id="resetQualityWeights", status_code=204, responses=problem_responses(403, 404, 412)
)
async def reset_quality_weights(slug: str, weights: WeightsDep, _: ServiceAdmin, if_match: IfMatch = None) -> None:
    """Take a department's own weights away: it is scored as the service comes."""
    await weights.reset_weights(slug, if_match)

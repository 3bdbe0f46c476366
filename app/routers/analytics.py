"""Analytics over all executions."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.dependencies import QualityDep, ViewerRole
from app.kit.schemas import ObjectIdStr
from app.routers.executions.executions import Moment, Name
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.quality.analytics import QualityAnalytics, QualityFilter

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=StrictRoute)


@router.get(
    "/quality",
    operation_id="getQualityAnalytics",
    response_description="The figures.",
    responses=problem_responses(403),
)
async def get_quality_analytics(
    quality: QualityDep,
    caller: ViewerRole,
    project: Annotated[ObjectIdStr | None, Query(description="The id of a CMS project.")] = None,
    department: Annotated[Name, Query(description="A department's slug.")] = None,
    agent: Annotated[Name, Query(description="An agent's id.")] = None,
    started_from: Annotated[Moment | None, Query(alias="from", description="Started at or after this time.")] = None,
    started_to: Annotated[Moment | None, Query(alias="to", description="Started before this time.")] = None,
) -> QualityAnalytics:
    """Summarize the quality of judged executions: scores, gates, revisions and reviews, by department, agent and day.

    Compare `meetingThreshold`, the share of scored executions that reached their agent's `qualityThreshold`, with
    `target`. `agreement` compares people's reviews with the judge: they agree if an approved output passed its gate, or
    if an output that was not approved did not pass.
    """
    wanted = QualityFilter(project, department, agent, started_from, started_to)
    return await quality.read(wanted, caller)

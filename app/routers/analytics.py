"""Analytics: what all executions together say."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.dependencies import QualityDep, ViewerRole
from app.kit.schemas import ObjectIdStr
from app.routers.executions.executions import Moment, Name
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.quality.analytics import QualityAnalytics, QualityFilter

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=StrictRoute)


@router.get("/quality", operation_id="getQualityAnalytics", responses=problem_responses(403))
async def get_quality_analytics(
    quality: QualityDep,
    caller: ViewerRole,
    project: Annotated[ObjectIdStr | None, Query(description="A CMS project's id.")] = None,
    department: Name = None,
    agent: Name = None,
    started_from: Annotated[Moment | None, Query(alias="from", description="Started at or after this time.")] = None,
    started_to: Annotated[Moment | None, Query(alias="to", description="Started before this time.")] = None,
) -> QualityAnalytics:
    """Sum up the quality of judged executions: scores, gates, revisions, reviews, by department, agent and day.

    `meetingThreshold` is the share of scored executions that reached their agent's `qualityThreshold`, to be held
    against `target`. `agreement` compares people's reviews with the judge: they agree where what people approved had
    passed its gate, and what they did not approve had not.
    """
    wanted = QualityFilter(project, department, agent, started_from, started_to)
    return await quality.read(wanted, caller)

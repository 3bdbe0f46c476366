"""Analytics over all executions."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator

from app.dependencies import QualityDep, UsageDep, ViewerRole
from app.errors import InvalidInput
from app.kit.schemas import ObjectIdStr
from app.routers.executions.executions import Moment, Name
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.quality.analytics import QualityAnalytics, QualityFilter
from app.services.usage.analytics import CacheAnalytics, UsageAnalytics, UsageFilter, UsageGrouping
from app.services.usage.periods import is_full_hour

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=StrictRoute)


def check_full_hour(moment: datetime) -> datetime:
    """Accept the start of an hour in UTC."""
    if not is_full_hour(moment):
        raise ValueError("must be a date or a full hour in UTC, such as 2026-01-31 or 2026-01-31T12:00:00Z")
    return moment


FullHour = Annotated[Moment, AfterValidator(check_full_hour)]


async def usage_filter(
    caller: ViewerRole,
    project: Annotated[ObjectIdStr | None, Query(description="The id of a CMS project.")] = None,
    department: Annotated[Name, Query(description="A department's slug.")] = None,
    agent: Annotated[Name, Query(description="An agent's id.")] = None,
    api_key: Annotated[
        Name, Query(alias="apiKey", description="The id of the API key that started the run, as `/api-keys` lists it.")
    ] = None,
    tag: Annotated[Name, Query(description="A tag of the run.")] = None,
    start: Annotated[
        FullHour | None,
        Query(alias="from", description="Calls that started at or after this date or full hour, in UTC."),
    ] = None,
    end: Annotated[
        FullHour | None, Query(alias="to", description="Calls that started before this date or full hour, in UTC.")
    ] = None,
) -> UsageFilter:
    """Return the filter for the requested model calls that the caller may see.

    Raises:
        InvalidInput: the range is empty.
    """
    if start is not None and end is not None and end <= start:
        raise InvalidInput.of_field("to", "must be later than from, because calls at that time are not included")
    return UsageFilter(project, department, agent, api_key, tag, start, end, caller.projects)


UsageFilterQuery = Annotated[UsageFilter, Depends(usage_filter)]


@router.get(
    "/usage",
    operation_id="getUsageAnalytics",
    response_description="The tokens and the cost.",
    responses=problem_responses(403),
)
async def get_usage_analytics(
    usage: UsageDep,
    wanted: UsageFilterQuery,
    group_by: Annotated[
        UsageGrouping | None, Query(alias="groupBy", description="Also list the usage by this dimension.")
    ] = None,
) -> UsageAnalytics:
    """Add up what model calls used and cost, by day, department, agent, model, purpose, project, API key or tag.

    Every call counts, including those that failed after they were billed. A call appears within two seconds of the end
    of its execution.
    """
    return await usage.read(wanted, group_by)


@router.get(
    "/cache",
    operation_id="getCacheAnalytics",
    response_description="The hits and the savings.",
    responses=problem_responses(403),
)
async def get_cache_analytics(usage: UsageDep, wanted: UsageFilterQuery) -> CacheAnalytics:
    """Show how many model calls the response cache answered, and what that saved."""
    return await usage.read_cache(wanted)


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

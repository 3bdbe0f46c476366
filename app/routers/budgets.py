"""Budgets: limits on the tokens and cost of scopes, for admins whose key is valid for all projects."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response

from app.database.connection import Raw
from app.dependencies import DEFAULT_PAGE, BudgetsDep, Cursor, Limit, ServiceAdmin
from app.kit.paging import PageRequest
from app.kit.schemas import Entry
from app.routers.http.entries import IfMatch, answer_entry
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.path_parameters import ScopePath
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.usage.budgets.schemas import BudgetRead, BudgetWrite
from app.services.usage.budgets.scopes import parse_scope
from app.services.usage.budgets.store import budget_etag

router = APIRouter(prefix="/budgets", tags=["budgets"], route_class=StrictRoute)

BudgetSort = Literal["scope", "-scope"]


@router.get(
    "", operation_id="listBudgets", response_description="The budgets of the page.", responses=problem_responses(403)
)
async def list_budgets(
    budgets: BudgetsDep,
    _: ServiceAdmin,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[BudgetSort, sort_query(scope="its scope")] = "scope",
) -> PageRead[BudgetRead]:
    """List the budgets with their current usage and reservations."""
    found = await budgets.page(PageRequest(limit, sort, cursor))
    items = [BudgetRead.of(raw) for raw in found.raws]
    return PageRead[BudgetRead](items=items, total=found.total, next_cursor=found.next_cursor)


@router.get(
    "/{scope}",
    operation_id="getBudget",
    response_description="The budget.",
    responses=problem_responses(403, 404),
)
async def get_budget(scope: ScopePath, budgets: BudgetsDep, _: ServiceAdmin, response: Response) -> BudgetRead:
    """Read a budget with its current usage and reservations. Its `ETag` covers the limits only."""
    return answer_budget(await budgets.store.get(parse_scope(scope)), response)


@router.put(
    "/{scope}",
    operation_id="setBudget",
    response_description="The budget.",
    responses=problem_responses(403, 404, 412, *BODY_PROBLEMS),
)
async def set_budget(
    scope: ScopePath,
    body: BudgetWrite,
    budgets: BudgetsDep,
    caller: ServiceAdmin,
    response: Response,
    if_match: IfMatch = None,
) -> BudgetRead:
    """Set the limits of a scope; all fields are replaced. Every process applies them within a second.

    Usage so far is kept: a limit below it exhausts the budget at once, and a higher one lets stopped runs be retried
    from their checkpoint. Changing `period` resets the count.
    """
    return answer_budget(await budgets.put(parse_scope(scope), body, caller.actor, if_match), response)


@router.delete(
    "/{scope}",
    operation_id="deleteBudget",
    response_description="The budget has been deleted.",
    status_code=204,
    responses=problem_responses(403, 404, 412),
)
async def delete_budget(scope: ScopePath, budgets: BudgetsDep, caller: ServiceAdmin, if_match: IfMatch = None) -> None:
    """Delete a budget and its usage count. Its scope is then unlimited."""
    await budgets.delete(parse_scope(scope), caller.actor, if_match)


def answer_budget(raw: Raw, response: Response) -> BudgetRead:
    """Return a stored budget with its tag in the headers."""
    return answer_entry(Entry(BudgetRead.of(raw), budget_etag(raw)), response)

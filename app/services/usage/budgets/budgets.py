"""Budgets around model calls: the most that a call may use is reserved before it, and its actual usage is settled after
it."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pymongo.errors import PyMongoError

from app.database.audit_marks import Actor
from app.database.connection import Database, Raw
from app.kit.paging import PageRequest, RawPage
from app.services.usage.budgets.amounts import NOTHING, Amount, dollars_of, read_units
from app.services.usage.budgets.errors import BudgetExhausted, BudgetUnavailable, BudgetUnpriced
from app.services.usage.budgets.known import KnownBudgets
from app.services.usage.budgets.schemas import BudgetWrite
from app.services.usage.budgets.scopes import CallScopes
from app.services.usage.budgets.store import BudgetStore, holds

SETTLE_PAUSES = (0.2, 1.0, 3.0)
"""The pauses in seconds between attempts to settle while the database does not answer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The most that a call may use, reserved in these scopes."""

    id: str
    root_id: str
    scopes: tuple[str, ...]
    worst: Amount


@dataclass(frozen=True, slots=True)
class BudgetMark:
    """A budget whose use has just reached `alertAt`; costs are in US dollars, limits `None` if unset."""

    scope: str
    period: str
    used_tokens: int
    max_tokens: int | None
    used_cost_usd: float | None
    max_cost_usd: float | None
    ratio: float

    @classmethod
    def of(cls, raw: Raw) -> "BudgetMark":
        """Return the mark of a stored budget; the ratio is that of the limit that is used most."""
        used_tokens, max_tokens = int(raw["usedTokens"]), raw.get("maxTokens")
        used_cost, limit = read_units(raw["usedCost"]), raw.get("maxCost")
        max_cost = None if limit is None else read_units(limit)
        shares = [used / most for used, most in ((used_tokens, max_tokens), (used_cost, max_cost)) if most]
        return cls(
            scope=raw["scope"],
            period=raw["period"],
            used_tokens=used_tokens,
            max_tokens=max_tokens,
            used_cost_usd=None if raw.get("usedUnpriced") else dollars_of(used_cost),
            max_cost_usd=None if max_cost is None else dollars_of(max_cost),
            ratio=round(max(shares, default=0.0), 6),
        )


@dataclass(frozen=True)
class Budgets:
    """The budgets of all scopes, for every process that shares the database."""

    store: BudgetStore
    known: KnownBudgets

    def applying(self, scopes: CallScopes) -> tuple[str, ...]:
        """Return the scopes of a call that have a budget, from narrow to wide, without asking the database."""
        return self.known.among(scopes.names)

    async def reserve(self, scopes: Sequence[str], root_id: str, worst: Amount, model: str) -> Reservation:
        """Reserve the worst case of a call in each scope, in order; all or none.

        Once started, it is not interrupted: a cancelled caller's reservation is released.

        Raises:
            BudgetExhausted: what is left in a scope does not cover it.
            BudgetUnpriced: a scope has a limit in US dollars, and the price of the model is unknown.
            BudgetUnavailable: the database does not answer.
        """
        reservation = Reservation(secrets.token_hex(12), root_id, tuple(scopes), worst)
        task = asyncio.create_task(self._reserve(reservation, model), name="reserve")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            with contextlib.suppress(BudgetExhausted, BudgetUnpriced, BudgetUnavailable):
                await asyncio.shield(task)
                await asyncio.shield(asyncio.create_task(self._release(reservation, reservation.scopes)))
            raise
        return reservation

    async def _reserve(self, reservation: Reservation, model: str) -> None:
        for place, scope in enumerate(reservation.scopes):
            try:
                budget = await self.store.reserve(scope, reservation.id, reservation.root_id, reservation.worst)
            except BudgetUnavailable:
                await self._release(reservation, reservation.scopes[: place + 1])
                raise
            if budget is None or holds(budget, reservation.id):
                continue
            await self._release(reservation, reservation.scopes[:place])
            if budget.get("maxCost") is not None and reservation.worst.cost is None:
                raise BudgetUnpriced(scope, model)
            raise BudgetExhausted(scope, seconds_until(budget.get("resetsAt"), datetime.now(UTC)))

    async def settle(self, reservation: Reservation, real: Amount) -> list[BudgetMark]:
        """Replace a call's reservation with its actual usage; return the budgets that reached `alertAt`.

        Repeating it books nothing more. If the database does not answer for seconds, the reservation stays until its
        run tree is taken over or it expires.
        """
        marks: list[BudgetMark] = []
        for scope in reversed(reservation.scopes):
            budget = await self._settle(scope, reservation, real)
            if budget is not None and budget.get("alertedBy") == reservation.id:
                marks.append(BudgetMark.of(budget))
        return marks

    async def _settle(self, scope: str, reservation: Reservation, real: Amount) -> Raw | None:
        for pause in (*SETTLE_PAUSES, None):
            try:
                return await self.store.settle(scope, reservation.id, real)
            except PyMongoError as error:
                log.warning("budget-not-settled", scope=scope, error=type(error).__name__)
                if pause is not None:
                    await asyncio.sleep(pause)
        return None

    async def _release(self, reservation: Reservation, scopes: Sequence[str]) -> None:
        for scope in reversed(scopes):
            try:
                await self.store.release(scope, reservation.id)
            except PyMongoError as error:  # it expires
                log.warning("budget-not-released", scope=scope, error=type(error).__name__)

    async def release_tree(self, root_id: str) -> None:
        """Drop the reservations that an earlier owner of a run tree left: its calls will not be stored.

        Raises:
            PyMongoError: the database does not answer.
        """
        if self.known.any:
            await self.store.release_tree(root_id)

    async def admit(self, scopes: Sequence[CallScopes], least: Amount = NOTHING) -> None:
        """Check that a run may start: no scope is at its limit or has too little left for the run's first call. `least`
        is the minimum that the first call needs. A budget that is entirely unused admits every run.

        Raises:
            BudgetExhausted: a scope is at its limit.
            BudgetUnavailable: the database does not answer.
        """
        named = list(dict.fromkeys(name for one in scopes for name in self.applying(one)))
        if not named:
            return
        try:
            found = {raw["scope"]: raw for raw in await self.store.read(named)}
        except PyMongoError as error:
            log.warning("budget-unavailable", scopes=named, error=type(error).__name__)
            raise BudgetUnavailable from error
        for scope in named:
            if scope in found and is_exhausted(found[scope], least):
                raise BudgetExhausted(scope, seconds_until(found[scope].get("resetsAt"), found[scope]["now"]))

    async def put(self, scope: str, body: BudgetWrite, actor: Actor, if_match: str | None = None) -> Raw:
        """Create or change the budget of a scope; this process applies it at once, others within a second.

        Raises:
            EditedMeanwhile: its limits are no longer those that `if_match` names.
            InvalidInput: MongoDB does not know the time zone.
        """
        raw = await self.store.put(scope, body.as_stored(), actor, if_match)
        await self.known.refresh()
        return raw

    async def delete(self, scope: str, actor: Actor, if_match: str | None = None) -> None:
        """Delete the budget of a scope.

        Raises:
            BudgetNotFound: the scope has none.
            EditedMeanwhile: its limits are no longer those that `if_match` names.
        """
        await self.store.delete(scope, actor, if_match)
        await self.known.refresh()

    async def page(self, page: PageRequest) -> RawPage:
        """Return a page of all budgets as they stand now.

        Raises:
            InvalidInput: the cursor does not belong to this list.
        """
        return await self.store.page(page)


def is_exhausted(budget: Raw, least: Amount) -> bool:
    """Return whether a limit is used up, or what is left of it does not cover `least`."""
    used_and_most = (
        (int(budget["usedTokens"]), budget.get("maxTokens"), least.tokens),
        (read_units(budget["usedCost"]), budget.get("maxCost"), least.cost or 0),
    )
    return any(
        most is not None and used > 0 and (used >= read_units(most) or used + needed > read_units(most))
        for used, most, needed in used_and_most
    )


def seconds_until(moment: datetime | None, now: datetime) -> int | None:
    """Return the whole seconds from one time to another, at least 1."""
    return None if moment is None else max(math.ceil((moment - now).total_seconds()), 1)


@asynccontextmanager
async def open_budgets(database: Database) -> AsyncGenerator[Budgets]:
    """Open the budgets of a process, which tracks the scopes that have one while the context lasts."""
    store = BudgetStore(database)
    known = KnownBudgets(store)
    await known.start()
    try:
        yield Budgets(store, known)
    finally:
        await known.stop()

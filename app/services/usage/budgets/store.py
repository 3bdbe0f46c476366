"""The stored budgets: each operation is one atomic update of one scope."""

import asyncio
from dataclasses import dataclass, field

import pymongo
import structlog
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from app.database.audit_marks import SERVICE, Actor, add_audit_marks, audit_mark
from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.database.etags import check_tag, tag_of
from app.database.transactions import Session, in_transaction
from app.errors import InvalidInput
from app.kit.paging import PageRequest, RawPage, read_page
from app.models.audit import AuditAction
from app.models.budget import Budget
from app.services.usage.budgets.amounts import Amount, dollars_of, read_units
from app.services.usage.budgets.errors import BudgetNotFound, BudgetUnavailable
from app.services.usage.budgets.pipelines import LIMIT_FIELDS, NOW, Now, as_now, putting, releasing, reserving, settling

RESERVED_SECONDS = 900.0
"""How long a reservation counts if it is neither settled nor released: longer than any model call may take."""
CHECK_SECONDS = 10.0
"""The time limit of an update; if the database answers later, the call is refused."""
UNKNOWN_TIMEZONE = 40485

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BudgetStore:
    """Reads and updates budgets; `now` is the database's time, unless a test sets another one."""

    database: Database
    now: Now = NOW
    reserved_seconds: float = RESERVED_SECONDS
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock], init=False, repr=False)

    @property
    def _budgets(self) -> Collection:
        return collection_of(self.database, Budget)

    async def reserve(self, scope: str, reservation_id: str, root_id: str, worst: Amount) -> Raw | None:
        """Reserve an amount if it fits.

        Returns the budget as it is afterward; `holds` tells whether the reservation fit. `None`
        means that the scope has no budget.

        Raises:
            BudgetUnavailable: the database does not answer.
        """
        update = reserving(reservation_id, root_id, worst, self.reserved_seconds, self.now)
        fields = {"maxTokens": 1, "maxCost": 1, "resetsAt": 1, "reservations.id": 1}
        try:
            async with self._turn(scope):
                with pymongo.timeout(CHECK_SECONDS):
                    return await self._budgets.find_one_and_update(
                        {"scope": scope}, update, fields, return_document=ReturnDocument.AFTER
                    )
        except PyMongoError as error:
            log.warning("budget-unavailable", scope=scope, error=type(error).__name__)
            raise BudgetUnavailable from error

    async def settle(self, scope: str, reservation_id: str, real: Amount) -> Raw | None:
        """Replace a call's reservation with its actual usage, once; return the budget as it is afterward, if any.

        Its `alertedBy` is the reservation if this settlement reached `alertAt`.
        """
        async with self._turn(scope):
            with pymongo.timeout(CHECK_SECONDS):
                return await self._budgets.find_one_and_update(
                    {"scope": scope},
                    settling(reservation_id, real, self.now),
                    {"reservations": 0},
                    return_document=ReturnDocument.AFTER,
                )

    async def release(self, scope: str, reservation_id: str) -> None:
        """Drop a reservation without booking anything."""
        async with self._turn(scope):
            with pymongo.timeout(CHECK_SECONDS):
                await self._budgets.update_one({"scope": scope}, releasing("id", reservation_id, self.now))

    def _turn(self, scope: str) -> asyncio.Lock:
        """Return the lock under which this process updates a scope.

        MongoDB retries conflicting updates of one document: hundreds at a time would take many seconds. Other scopes
        and reads do not need the lock.
        """
        return self._turns.setdefault(scope, asyncio.Lock())

    async def release_tree(self, root_id: str) -> None:
        """Drop the reservations of a run tree in all scopes: the process that made them no longer runs it."""
        await self._budgets.update_many({"reservations.root": root_id}, releasing("root", root_id, self.now))

    async def put(self, scope: str, limits: Raw, actor: Actor = SERVICE, if_match: str | None = None) -> Raw:
        """Create the budget of a scope or change its limits; returns it.

        Raises:
            EditedMeanwhile: its limits are no longer those that `if_match` names.
            InvalidInput: MongoDB does not know the time zone.
        """
        mark = audit_mark(AuditAction.BUDGET_SET, actor, scope, shown_limits(limits))

        async def set_limits(session: Session) -> None:
            await self._check(scope, if_match, session)
            await self._budgets.update_one({"scope": scope}, putting(limits, self.now), upsert=True, session=session)
            await add_audit_marks(self.database, [mark], session)

        for _ in range(2):
            try:
                await in_transaction(self.database, set_limits)
                break
            except DuplicateKeyError:  # two processes created it at the same time
                continue
            except OperationFailure as error:
                if error.code == UNKNOWN_TIMEZONE:
                    raise InvalidInput.of_field("timezone", "is unknown to MongoDB") from None
                raise
        return await self.get(scope)

    async def get(self, scope: str) -> Raw:
        """Return a budget as it stands now.

        Raises:
            BudgetNotFound: the scope has none.
        """
        found = await self._budgets.find_one({"scope": scope}, as_now(self.now))
        if found is None:
            raise BudgetNotFound(scope)
        return found

    async def read(self, scopes: list[str]) -> list[Raw]:
        """Return those of the budgets that exist, as they stand now; one reader of a process at a time."""
        async with self._turn("reading"):
            return await self._budgets.find({"scope": {"$in": scopes}}, as_now(self.now)).to_list()

    async def page(self, page: PageRequest) -> RawPage:
        """Return a page of all budgets as they stand now.

        Raises:
            InvalidInput: the cursor does not belong to this list.
        """
        return await read_page(self._budgets, {}, page, as_now(self.now))

    async def delete(self, scope: str, actor: Actor = SERVICE, if_match: str | None = None) -> None:
        """Delete a budget and its usage count.

        Raises:
            BudgetNotFound: the scope has none.
            EditedMeanwhile: its limits are no longer those that `if_match` names.
        """

        async def remove(session: Session) -> None:
            found = await self._budgets.find_one_and_delete({"scope": scope}, LIMIT_FIELDS, session=session)
            if found is None:
                raise BudgetNotFound(scope)
            check_tag(budget_etag(found), if_match)
            await add_audit_marks(self.database, [audit_mark(AuditAction.BUDGET_DELETE, actor, scope)], session)

        await in_transaction(self.database, remove)

    async def _check(self, scope: str, if_match: str | None, session: Session) -> None:
        if if_match is not None:
            found = await self._budgets.find_one({"scope": scope}, LIMIT_FIELDS, session=session)
            check_tag(budget_etag(found) if found else None, if_match)

    async def scopes(self) -> frozenset[str]:
        """Return the scopes that have a budget."""
        found = self._budgets.find({}, {"_id": 0, "scope": 1})
        return frozenset([raw["scope"] async for raw in found if isinstance(raw.get("scope"), str)])


def budget_etag(raw: Raw) -> str:
    """Return the entity tag of a budget, which covers its limits but not its usage."""
    return tag_of({name: raw.get(name) for name in LIMIT_FIELDS})


def shown_limits(limits: Raw) -> Raw:
    """Return a budget's limits as the audit log shows them."""
    most = limits.get("maxCost")
    return {
        "maxTokens": limits.get("maxTokens"),
        "maxCostUsd": None if most is None else dollars_of(read_units(most)),
        "period": limits.get("period"),
    }


def holds(budget: Raw, reservation_id: str) -> bool:
    """Return whether a budget that was just read has a reservation."""
    return any(one.get("id") == reservation_id for one in budget.get("reservations", ()))

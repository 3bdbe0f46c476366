"""Writing documents of the catalogue: one transaction each, targeted updates, conflicts told by their names.

A write touches what it refers to (an agent its department and tools), so that a concurrent delete of that conflicts
with it and one of the two looks again. What others stored in the same document stays as it is.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.database.connection import Database, Raw
from app.database.transactions import in_transaction
from app.errors import AppError, InvalidInput
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.agent import Agent
from app.models.base import PayloadDocument, Relation
from app.models.department import Department
from app.services.catalog.etags import REFERRED, check_if_match
from app.services.catalog.loader import valid


class CatalogWriteConflict(AppError):
    """The write would break a rule of the catalogue."""

    code = "conflict"
    status = HTTPStatus.CONFLICT


class KeyTaken(CatalogWriteConflict):
    """Another entry has this key already."""

    code = "already-exists"

    def __init__(self, key: str, value: str) -> None:
        super().__init__(f"There is already one with the {key} {value!r}.")


class DepartmentHasHead(CatalogWriteConflict):
    """A department has one head."""

    code = "department-has-head"

    def __init__(self, department: str, head: str, *, is_trashed: bool = False) -> None:
        advice = " It is in the trash of the CMS: restore or delete it there, or unset its isDepartmentHead."
        super().__init__(f"The department {department!r} already has a head: {head}.{advice if is_trashed else ''}")


@dataclass(frozen=True)
class CatalogWriter:
    """Stores, changes and deletes documents, each in a transaction."""

    database: Database
    on_write: Callable[[], None] = field(default=lambda: None, kw_only=True)
    """Called after each write: the next run of this process reads what is stored now."""

    async def touch(
        self, document: type[PayloadDocument], key: str, value: str, path: str, session: AsyncClientSession
    ) -> Relation:
        """The id of what a natural key names, locked against its deletion until this transaction has ended."""
        return (await self.touch_fields(document, {key: value}, ["_id"], path, session))["_id"]

    async def touch_fields(
        self,
        document: type[PayloadDocument],
        selector: JsonObject,
        fields: list[str],
        path: str,
        session: AsyncClientSession,
    ) -> Raw:
        """Some fields of what a natural key names, locked against its deletion until this transaction has ended.

        Raises:
            InvalidInput: there is no such document.
        """
        found = await self.collection(document).find_one_and_update(
            selector, {"$inc": {REFERRED: 1}}, projection=fields, session=session
        )
        if found is None:
            [value] = selector.values()
            raise InvalidInput.of_field(path, f"{value!r} does not exist")
        return found

    async def insert(
        self,
        document: type[PayloadDocument],
        fields: JsonObject | Callable[[AsyncClientSession], Awaitable[JsonObject]],
        key: str,
    ) -> Raw:
        """Store a new document in Payload's form, with every default."""

        async def insert(session: AsyncClientSession) -> Raw:
            prepared = fields if isinstance(fields, dict) else await fields(session)
            new = document.model_validate(prepared | {"_id": ObjectId()})
            raw = new.as_stored()
            await self.collection(document).insert_one(raw, session=session)
            return raw

        return await self._in_transaction(insert, key)

    async def update(
        self,
        document: type[PayloadDocument],
        selector: Raw,
        missing: AppError,
        prepare: Callable[[AsyncClientSession, Raw], Awaitable[JsonObject]],
        if_match: str | None,
    ) -> Raw:
        """Set what changes and nothing else; `null` unsets.

        Raises:
            StoredDocumentInvalid: a field is not what the service stores there, and the change does not correct it.
        """

        async def update(session: AsyncClientSession) -> Raw:
            raw = await self.collection(document).find_one(selector, session=session)
            if raw is None:
                raise missing
            check_if_match(raw, if_match)
            changes = await prepare(session, raw)
            written = await write(session, raw, changes) if changes else raw
            valid(document, written, str(next(iter(selector.values()))))
            return written

        async def write(session: AsyncClientSession, raw: Raw, changes: JsonObject) -> Raw:
            setting = {name: value for name, value in changes.items() if value is not None} | {"updatedAt": utc_now()}
            unsetting = {name: "" for name, value in changes.items() if value is None}
            operators = {"$set": setting} | ({"$unset": unsetting} if unsetting else {})
            return await self.collection(document).find_one_and_update(
                {"_id": raw["_id"]}, operators, return_document=True, session=session
            )

        return await self._in_transaction(update, next(iter(selector)))

    async def delete(
        self,
        document: type[PayloadDocument],
        selector: Raw,
        missing: AppError,
        refuse: Callable[[AsyncClientSession, Raw], Awaitable[None]],
        if_match: str | None,
    ) -> None:
        async def delete(session: AsyncClientSession) -> None:
            raw = await self.collection(document).find_one(selector, session=session)
            if raw is None:
                raise missing
            check_if_match(raw, if_match)
            await refuse(session, raw)
            await self.collection(document).delete_one({"_id": raw["_id"]}, session=session)

        await self._in_transaction(delete, next(iter(selector)))

    async def refuse_second_head(
        self, agent: Raw, own_id: ObjectId | None, slug: str | None, session: AsyncClientSession
    ) -> None:
        """Name the head that stands in the way; the database's own index refuses what slips past."""
        if agent.get("isDepartmentHead") is not True or agent.get("department") is None:
            return
        other = await self.collection(Agent).find_one(
            {"department": agent["department"], "isDepartmentHead": True, "_id": {"$ne": own_id}},
            {"agentId": 1, "name": 1, "deletedAt": 1},
            session=session,
        )
        if other is not None:
            department = slug or await self.slug_of(agent["department"], session)
            head = f"{other.get('name')} ({other.get('agentId')})"
            raise DepartmentHasHead(department, head, is_trashed=bool(other.get("deletedAt")))

    async def slug_of(self, department: ObjectId, session: AsyncClientSession) -> str:
        """The slug of a department."""
        raw = await self.collection(Department).find_one({"_id": department}, {"slug": 1}, session=session)
        return str((raw or {}).get("slug"))

    async def _in_transaction(self, work: Callable[[AsyncClientSession], Awaitable[Any]], key: str) -> Any:  # noqa: ANN401 - whatever the work gives
        """Run in a transaction, again when it met another one; a broken unique index is a conflict that names it."""
        try:
            written = await in_transaction(self.database, work)
        except DuplicateKeyError as error:
            raise duplicate(error, key) from None
        self.on_write()
        return written

    def collection(self, document: type[PayloadDocument]) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        return self.database[document.get_collection_name()]


def duplicate(error: DuplicateKeyError, key: str) -> AppError:
    """The conflict behind a broken unique index."""
    details = error.details or {}
    value: JsonObject = details.get("keyValue") or {}
    if "department" in value:
        return DepartmentHasHead(str(value["department"]), "another agent was faster")
    return KeyTaken(key, str(value.get(key)))

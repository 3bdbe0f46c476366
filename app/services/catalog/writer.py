"""Writes of catalog documents: one transaction each, targeted updates, named conflicts.

A write touches the documents that it refers to (an agent touches its department and tools), so that it conflicts with a
concurrent deletion of one of them, and one of the two is retried. Fields that other programs stored stay unchanged.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec, TypeVar

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from app.database.audit_marks import Actor, add_audit_marks, audit_mark
from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.database.etags import REFERRED, check_if_match
from app.database.transactions import Session, transactional
from app.errors import AppError, InvalidInput
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.audit import AuditAction
from app.models.base import PayloadDocument, Relation
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.services.catalog.loader import valid

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class CatalogWriteConflict(AppError):
    """The write would break a rule of the catalog."""

    code = "conflict"
    status = HTTPStatus.CONFLICT


class KeyTaken(CatalogWriteConflict):
    """Another entry already has this key."""

    code = "already-exists"

    def __init__(self, key: str, value: str) -> None:
        super().__init__(f"An entry with the {key} {value!r} already exists.")


class DepartmentHasHead(CatalogWriteConflict):
    """A department has one head."""

    code = "department-has-head"

    def __init__(self, department: str, head: str, *, is_trashed: bool = False) -> None:
        advice = " It is in the trash of the CMS: restore or delete it there, or unset its isDepartmentHead."
        super().__init__(f"The department {department!r} already has a head: {head}.{advice if is_trashed else ''}")


@dataclass(frozen=True)
class RecordedKind:
    """How the audit log names changes of one kind of document, whose natural key is in the field `key`."""

    key: str
    create: AuditAction
    update: AuditAction
    delete: AuditAction

    def key_of(self, raw: Raw) -> str:
        """Return the natural key of a document."""
        return str(raw.get(self.key))


RECORDED: dict[type[PayloadDocument], RecordedKind] = {
    Department: RecordedKind(
        "slug", AuditAction.DEPARTMENT_CREATE, AuditAction.DEPARTMENT_UPDATE, AuditAction.DEPARTMENT_DELETE
    ),
    Agent: RecordedKind("agentId", AuditAction.AGENT_CREATE, AuditAction.AGENT_UPDATE, AuditAction.AGENT_DELETE),
    CustomTool: RecordedKind("toolName", AuditAction.TOOL_CREATE, AuditAction.TOOL_UPDATE, AuditAction.TOOL_DELETE),
}


def creation_mark(document: type[PayloadDocument], raw: Raw, actor: Actor) -> Raw:
    """Return the audit mark of a new document."""
    recorded = RECORDED[document]
    return audit_mark(recorded.create, actor, recorded.key_of(raw))


def change_mark(document: type[PayloadDocument], raw: Raw, written: Raw, actor: Actor) -> Raw:
    """Return the audit mark of a change, which names the fields that differ and none of their values."""
    recorded = RECORDED[document]
    names = sorted({*raw, *written} - {"updatedAt", REFERRED})
    detail: JsonObject = {"changed": [name for name in names if raw.get(name) != written.get(name)]}
    before, after = recorded.key_of(raw), recorded.key_of(written)
    return audit_mark(recorded.update, actor, before, detail if before == after else {**detail, "newKey": after})


@dataclass(frozen=True)
class CatalogWriter:
    """Inserts, changes and deletes documents within the session of a transaction."""

    database: Database
    on_write: Callable[[], None] = field(default=lambda: None, kw_only=True)
    """Called after each write, so that the next run of this process reads the stored definitions again."""

    async def touch(
        self, document: type[PayloadDocument], key: str, value: str, path: str, session: Session
    ) -> Relation:
        """Return the id behind a natural key, and lock the document against deletion until the transaction ends.

        Raises:
            InvalidInput: there is no such document.
        """
        return (await self.touch_fields(document, {key: value}, ["_id"], path, session))["_id"]

    async def touch_fields(
        self, document: type[PayloadDocument], selector: JsonObject, fields: list[str], path: str, session: Session
    ) -> Raw:
        """Return some fields of a document, and lock it against deletion until the transaction ends.

        Raises:
            InvalidInput: there is no such document.
        """
        found: Raw | None = await self.collection(document).find_one_and_update(
            selector, {"$inc": {REFERRED: 1}}, projection=fields, session=session
        )
        if found is None:
            [value] = selector.values()
            raise InvalidInput.of_field(path, f"{value!r} does not exist")
        return found

    async def insert(self, document: type[PayloadDocument], fields: JsonObject, actor: Actor, session: Session) -> Raw:
        """Insert a new document in Payload's form, with all defaults, and return it."""
        raw = document.model_validate(fields | {"_id": ObjectId()}).as_stored()
        await self.collection(document).insert_one(raw, session=session)
        await add_audit_marks(self.database, [creation_mark(document, raw, actor)], session)
        return raw

    async def find_current(
        self,
        document: type[PayloadDocument],
        selector: Raw,
        missing: AppError,
        if_match: str | None,
        session: Session,
    ) -> Raw:
        """Return the document that a write is about to change or delete.

        Raises:
            AppError: `missing`, if there is no such document.
            EditedMeanwhile: it is not the version that `if_match` names.
        """
        raw = await self.collection(document).find_one(selector, session=session)
        if raw is None:
            raise missing
        check_if_match(raw, if_match)
        return raw

    async def change(
        self, document: type[PayloadDocument], raw: Raw, changes: JsonObject, name: str, actor: Actor, session: Session
    ) -> Raw:
        """Set the fields that change and no others (`null` unsets), and return the changed document.

        Raises:
            StoredDocumentInvalid: a stored field has an invalid value that the change does not correct.
        """
        written = await self._set(document, raw, changes, session) if changes else raw
        valid(document, written, name)
        if changes:
            await add_audit_marks(self.database, [change_mark(document, raw, written, actor)], session)
        return written

    async def _set(self, document: type[PayloadDocument], raw: Raw, changes: JsonObject, session: Session) -> Raw:
        setting = {name: value for name, value in changes.items() if value is not None} | {"updatedAt": utc_now()}
        unsetting = {name: "" for name, value in changes.items() if value is None}
        operators = {"$set": setting} | ({"$unset": unsetting} if unsetting else {})
        written: Raw | None = await self.collection(document).find_one_and_update(
            {"_id": raw["_id"]}, operators, return_document=True, session=session
        )
        assert written is not None  # noqa: S101 - the same transaction has read it
        return written

    async def delete(self, document: type[PayloadDocument], raw: Raw, actor: Actor, session: Session) -> None:
        """Delete a document."""
        await self.collection(document).delete_one({"_id": raw["_id"]}, session=session)
        mark = audit_mark(RECORDED[document].delete, actor, RECORDED[document].key_of(raw))
        await add_audit_marks(self.database, [mark], session)

    async def refuse_second_head(self, agent: Raw, own_id: ObjectId | None, slug: str | None, session: Session) -> None:
        """Refuse a second head for a department, naming the first. A unique index catches concurrent writes.

        Raises:
            DepartmentHasHead: the department already has a head.
        """
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

    async def slug_of(self, department: ObjectId, session: Session) -> str:
        """Return the slug of a department."""
        raw = await self.collection(Department).find_one({"_id": department}, {"slug": 1}, session=session)
        return str((raw or {}).get("slug"))

    def collection(self, document: type[PayloadDocument]) -> Collection:
        """Return the collection of a document class."""
        return collection_of(self.database, document)


Writer = TypeVar("Writer", bound=CatalogWriter)


def catalog_write(
    method: Callable[Concatenate[Writer, Session, Parameters], Awaitable[Result]],
) -> Callable[Concatenate[Writer, Parameters], Coroutine[Any, Any, Result]]:
    """Run each call of a writer's method in a transaction, report duplicate keys as conflicts, and call `on_write`."""
    in_transaction = transactional(method)

    @wraps(method)
    async def write(self: Writer, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            written = await in_transaction(self, *args, **kwargs)
        except DuplicateKeyError as error:
            raise conflict_of(error) from None
        self.on_write()
        return written

    return write


def conflict_of(error: DuplicateKeyError) -> AppError:
    """Return the conflict behind a violated unique index."""
    details = error.details or {}
    values: JsonObject = details.get("keyValue") or {}
    if "department" in values:
        return DepartmentHasHead(str(values["department"]), "another agent was faster")
    key, value = next(iter(values.items()), ("key", None))
    return KeyTaken(key, str(value))

"""The stored weights of quality dimensions; an edit applies from the next run."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.database.audit_marks import Actor, add_audit_marks, audit_mark
from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.database.etags import REFERRED, check_if_match, etag_of
from app.database.transactions import in_transaction
from app.kit.schemas import ApiModel, Entry
from app.kit.times import utc_now
from app.models.audit import AuditAction
from app.models.catalog.department import Department
from app.models.catalog.quality_weights import DEFAULT_SLUG, QualityWeights
from app.services.catalog.loader import DefinitionLoader, DepartmentNotFound, parsed
from app.services.catalog.seeds.insertion import department_ids
from app.services.quality.scores import DEPARTMENT_WEIGHTS, Weights, weights_of

Written = TypeVar("Written")

MAX_WEIGHT = 1_000_000
Weight = Annotated[float, Field(ge=0, le=MAX_WEIGHT, allow_inf_nan=False)]
EXAMPLE: dict[str, JsonValue] = {
    "confidence": 0.1,
    "completeness": 0.25,
    "relevance": 0.2,
    "consistency": 0.25,
    "creativity": 0.15,
    "technical": 0.05,
}


class WeightsRead(ApiModel):
    """The six weights of a department's score; only their proportions matter."""

    confidence: float
    """The weight of well-supported claims."""
    completeness: float
    """The weight of answering every part of the request."""
    relevance: float
    """The weight of staying on the request."""
    consistency: float
    """The weight of freedom from contradictions."""
    creativity: float
    """The weight of original choices."""
    technical: float
    """The weight of correct craft: form, figures, terms."""


class WeightsUpdate(BaseModel):
    """All six weights; a dimension with 0 does not count, and at least one must count."""

    model_config = ConfigDict(
        extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    confidence: Weight
    """The weight of well-supported claims."""
    completeness: Weight
    """The weight of answering every part of the request."""
    relevance: Weight
    """The weight of staying on the request."""
    consistency: Weight
    """The weight of freedom from contradictions."""
    creativity: Weight
    """The weight of original choices."""
    technical: Weight
    """The weight of correct craft: form, figures, terms."""

    @model_validator(mode="after")
    def one_counts(self) -> "WeightsUpdate":
        """Require a weight above 0, without which there would be no score."""
        if not any(self.model_dump().values()):
            raise ValueError("at least one weight must be above 0")
        return self


@dataclass(frozen=True)
class WeightStore:
    """The stored weights, which take precedence over the research report's."""

    database: Database
    loader: DefinitionLoader

    async def list_weights(self) -> dict[str, WeightsRead]:
        """Return the default weights, and those of every department that has its own."""
        stored = await self._read({})
        known = await department_ids(self.database)
        slugs = sorted({*DEPARTMENT_WEIGHTS, *stored} & {*known} - {DEFAULT_SLUG})
        return {slug: shape_of(weights_of(slug, stored)) for slug in (DEFAULT_SLUG, *slugs)}

    async def get_weights(self, slug: str) -> Entry[WeightsRead]:
        """Return the weights for a department's next run, its own or the default.

        Raises:
            DepartmentNotFound: no department has this slug.
        """
        if slug != DEFAULT_SLUG and await self._departments.find_one({"slug": slug}, {"_id": 1}) is None:
            raise DepartmentNotFound(slug)
        return entry_of(await self._weights_of(slug))

    async def set_weights(
        self, slug: str, weights: WeightsUpdate, if_match: str | None, actor: Actor
    ) -> Entry[WeightsRead]:
        """Store a department's own weights.

        Raises:
            DepartmentNotFound: no department has this slug.
            EditedMeanwhile: its weights are no longer those that `if_match` names.
        """

        async def store(session: AsyncClientSession) -> Entry[WeightsRead]:
            await self._lock(slug, if_match, session)
            changes = {"weights": weights.model_dump(), "updatedAt": utc_now()}
            await self._collection.update_one({"slug": slug}, {"$set": changes}, upsert=True, session=session)
            mark = audit_mark(AuditAction.WEIGHTS_UPDATE, actor, slug, weights.model_dump())
            await add_audit_marks(self.database, [mark], session)
            return entry_of(await self._weights_of(slug, session))

        return await self._in_transaction(store)

    async def reset_weights(self, slug: str, if_match: str | None, actor: Actor) -> None:
        """Restore the report's weights, or the default if the report has none for the department.

        Raises:
            DepartmentNotFound: no department has this slug.
            EditedMeanwhile: its weights are no longer those that `if_match` names.
        """

        async def remove(session: AsyncClientSession) -> None:
            await self._lock(slug, if_match, session)
            await self._collection.delete_one({"slug": slug}, session=session)
            await add_audit_marks(self.database, [audit_mark(AuditAction.WEIGHTS_RESET, actor, slug)], session)

        await self._in_transaction(remove)

    async def _lock(self, slug: str, if_match: str | None, session: AsyncClientSession) -> None:
        """Check that the weights may be written, and lock them and the department's slug for this transaction."""
        if slug != DEFAULT_SLUG:
            touching = {"$inc": {REFERRED: 1}}
            if await self._departments.find_one_and_update({"slug": slug}, touching, session=session) is None:
                raise DepartmentNotFound(slug)
        check_if_match(as_raw(await self._weights_of(slug, session)), if_match)

    async def _in_transaction(self, write: Callable[[AsyncClientSession], Awaitable[Written]]) -> Written:
        while True:
            with suppress(DuplicateKeyError):  # a concurrent request stored the first weights of this slug
                written = await in_transaction(self.database, write)
                self.loader.forget_all()
                return written

    async def _weights_of(self, slug: str, session: AsyncClientSession | None = None) -> Weights:
        return weights_of(slug, await self._read({"slug": {"$in": [slug, DEFAULT_SLUG]}}, session))

    async def _read(self, selector: Raw, session: AsyncClientSession | None = None) -> dict[str, Weights]:
        found = self._collection.find(selector, session=session)
        documents = [document async for raw in found if (document := parsed(QualityWeights, raw))]
        return {document.slug: document.weights for document in documents}

    @property
    def _collection(self) -> Collection:
        return collection_of(self.database, QualityWeights)

    @property
    def _departments(self) -> Collection:
        return collection_of(self.database, Department)


def entry_of(weights: Weights) -> Entry[WeightsRead]:
    """Return weights with their entity tag."""
    return Entry(shape_of(weights), etag_of(as_raw(weights)))


def as_raw(weights: Weights) -> Raw:
    """Return the content of the weights' entity tag."""
    return shape_of(weights).model_dump()


def shape_of(weights: Weights) -> WeightsRead:
    """Return weights in the API's shape; a missing dimension does not count."""
    return WeightsRead.model_validate({name: weights.get(name, 0) for name in WeightsRead.model_fields})

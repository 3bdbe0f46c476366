"""The weights of a department's scores: the service's own `quality-weights` collection."""

from datetime import datetime
from typing import Annotated

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from app.kit.times import utc_now
from app.models.base import stored_name

DEFAULT_SLUG = "default"
"""The entry for all departments that have no weights of their own."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class QualityWeights(Document):
    """The weights of one department by dimension, or the default weights; only their proportions matter."""

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    slug: str
    weights: dict[str, Weight]
    updated_at: datetime = Field(default_factory=utc_now)

    class Settings:
        """Collection and indexes."""

        name = "quality-weights"
        keep_nulls = False
        indexes = (IndexModel([("slug", ASCENDING)], name="slug_1", unique=True),)

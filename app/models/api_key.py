"""An API key: the service's own `api-keys` collection; the key itself is never stored, only its SHA-256."""

from datetime import datetime

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from app.kit.described_enums import DescribedEnum
from app.kit.times import utc_now
from app.models.base import stored_name


class Role(DescribedEnum):
    """The permissions of a caller; each role includes those before it."""

    VIEWER = "viewer"
    """May read executions, events and analytics."""
    RUNNER = "runner"
    """May also start, cancel, retry and review runs."""
    ADMIN = "admin"
    """May also edit the catalog, the weights and API keys, and delete executions."""


class ApiKey(Document):
    """An API key: its name, its role and its projects.

    A key with `all_projects` is valid for every project, and its `projects` are empty. Keys of older releases lack the
    field and are valid for every project if their list is empty.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    name: str
    role: Role
    key_hash: str
    projects: list[str] = Field(default_factory=list)
    all_projects: bool | None = None
    run_rate_limit: str | None = None
    created_at: datetime = Field(default_factory=utc_now)

    @property
    def allowed_projects(self) -> list[str] | None:
        """The projects that the key is valid for, `None` for all projects."""
        opens_all = not self.projects if self.all_projects is None else self.all_projects
        return None if opens_all else self.projects

    class Settings:
        """Collection and indexes."""

        name = "api-keys"
        keep_nulls = False
        indexes = (IndexModel([("keyHash", ASCENDING)], name="keyHash_1", unique=True),)

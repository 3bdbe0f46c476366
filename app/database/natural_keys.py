"""Lookups of the natural keys behind relations: the `agentId` for an agent's `_id`, the `slug` for a department's."""

from collections.abc import Iterable
from typing import Any

from app.database.collections import collection_of
from app.database.connection import Database
from app.models.base import Relation
from app.models.catalog.agent import Agent
from app.models.catalog.department import Department


async def find_agent_ids(database: Database, agents: Iterable[Any]) -> dict[Relation | None, str]:
    """Return the `agentId` of each agent that exists, by its `_id`; values that are not an `_id` match nothing."""
    found = collection_of(database, Agent).find({"_id": {"$in": list(agents)}}, {"agentId": 1})
    return {raw["_id"]: raw["agentId"] async for raw in found if raw.get("agentId")}


async def find_agent_id(database: Database, agent: Relation | None) -> str | None:
    """Return an agent's `agentId`, or `None` if the agent does not exist."""
    return (await find_agent_ids(database, [agent])).get(agent)


async def find_slug(database: Database, department: Relation | None) -> str | None:
    """Return a department's slug, or `None` if the department does not exist."""
    raw = await collection_of(database, Department).find_one({"_id": department}, {"slug": 1})
    return raw.get("slug") if raw else None

"""Opening the response cache of a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.database.collections import collection_of
from app.database.connection import Database
from app.database.shared_secret import shared_secret
from app.events.stream.signatures import MessageSigner
from app.kit.redis import redis_client
from app.models.cached_answer import CachedAnswer
from app.services.llm.cache.bounded_store import BoundedStore
from app.services.llm.cache.key import DeploymentGroups
from app.services.llm.cache.response_cache import ResponseCache
from app.services.llm.cache.stores import MongoStore, RedisStore
from app.services.llm.gateway import ModelGateway
from app.settings import Settings


@asynccontextmanager
async def open_response_cache(
    settings: Settings, database: Database, models: ModelGateway
) -> AsyncGenerator[ResponseCache | None]:
    """The response cache, in Redis if it is configured, otherwise in MongoDB; `None` if its time to live is 0."""
    ttl = settings.response_cache_ttl_seconds
    if ttl == 0:
        yield None
        return
    secret = await shared_secret(database, "response-cache")
    groups, signer = DeploymentGroups(models.usable_entries, models.table), MessageSigner(secret)
    if settings.redis_url is None:
        store = BoundedStore(MongoStore(collection_of(database, CachedAnswer)))
        yield ResponseCache(store, groups, signer, ttl)
        return
    redis = redis_client(settings.redis_url.get_secret_value())
    try:
        yield ResponseCache(BoundedStore(RedisStore(redis, secret)), groups, signer, ttl)
    finally:
        await redis.aclose()

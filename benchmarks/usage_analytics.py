"""Usage analytics over HTTP, with roll-ups as a million executions leave them."""

import os
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import bson
import uvloop
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from rich.table import Table

from app.database.collections import collection_of
from app.database.connection import Database
from app.database.opening import open_database
from app.kit.json_values import JsonObject
from app.models.api_key import ApiKey
from app.models.usage_bucket import UsageBucket, UsageDetail, UsageHour, bucket_indexes
from app.services.usage.analytics import UsageGrouping
from app.services.usage.ledger_counts import Dimensions, HourUsage, add_to, usage_by_hour
from app.services.usage.rollups import ID_BYTES, BucketKey, Buckets, document_for
from app.settings import Settings
from benchmarks.catalog import percentile_99, time_each
from benchmarks.children import Child
from benchmarks.load import client_session
from benchmarks.service import ADMIN_KEY, running_service, service_environment
from benchmarks.tables import goal, table_of

EXECUTIONS = int(os.environ.get("BENCH_EXECUTIONS", "1000000"))
MONTH = "2026-08"
FIRST_DAY, DAYS = datetime(2026, 8, 20, tzinfo=UTC), 90
DEPARTMENTS, AGENTS_EACH, KEYS, PROJECTS, TAGS = 6, 5, 20, 50, 4
MODELS = ("anthropic/claude-3.5-sonnet", "anthropic/claude-3-haiku", "openai/gpt-4.1")
PURPOSES = ("plan", "work", "judge", "review", "report")
TAGGED_SHARE = 0.1
PATTERNS = 2_000
"""The number of different executions, by their calls; each runs for many agents, projects and keys."""
DIFFERENT_DAYS = 3
"""The number of days whose executions are drawn and counted; the others repeat them, because counting takes a while."""
BATCH = 5_000
BINARY_HEAD = 5
"""The bytes of a stored binary before its content."""
READS = 100
GOAL_MS = 200.0
RANDOM = random.Random(20261128)  # noqa: S311 - the same figures in every run

DEPARTMENT_NAMES = [f"department-{place}" for place in range(DEPARTMENTS)]
AGENT_NAMES = [(slug, f"{slug}-agent-{place}") for slug in DEPARTMENT_NAMES for place in range(AGENTS_EACH)]
KEY_IDS = [str(ObjectId()) for _ in range(KEYS)]
PROJECT_IDS = [str(ObjectId()) for _ in range(PROJECTS)]
TAG_NAMES = [f"tag-{place}" for place in range(TAGS)]


@dataclass
class Found:
    """The number of stored buckets, and the milliseconds of each read by its name."""

    buckets: dict[str, int] = field(default_factory=dict[str, int])
    reads: dict[str, list[float]] = field(default_factory=dict[str, list[float]])


def usage_analytics_tables() -> Iterator[Table]:
    """Every grouping over the full time, over days and hours that cut months, and with filters."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        directory = Path(name)
        with running_service(service_environment(directory), directory) as service:
            found = uvloop.run(measure(service, directory / "data"))
    stored = ", ".join(f"{count:,} in {name}" for name, count in found.buckets.items())
    title = f"Usage of {EXECUTIONS:,} executions in {DAYS} days, one read at a time ({stored})"
    table = table_of(title, "ms p50", f"ms p99 (goal: {GOAL_MS:.0f})")
    for read, milliseconds in found.reads.items():
        p99 = percentile_99(milliseconds)
        table.add_row(read, f"{statistics.median(milliseconds):.1f}", goal(f"{p99:.1f}", met=p99 < GOAL_MS))
    yield table


async def measure(service: Child, data_dir: Path) -> Found:
    """Fill the database of a running service and read over HTTP."""
    found = Found()
    settings = Settings(_env_file=None, data_dir=data_dir)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    async with open_database(settings, share=True) as database, client_session() as http:
        await fill(database)
        for document in (UsageBucket, UsageDetail, UsageHour):
            count = await collection_of(database, document).estimated_document_count()
            found.buckets[document.get_collection_name()] = count
        viewer = await make_viewer(http, service)
        for name, (key, query) in reads_for(viewer).items():
            found.reads[name] = await time_each(READS, lambda key=key, query=query: read(http, service, key, query))
    return found


def reads_for(viewer: str) -> dict[str, tuple[str, JsonObject]]:
    """Return the reads by name: the key that reads, and the query. `viewer` is a key of five projects."""
    hours = {"from": "2026-08-25T05:00:00Z", "to": "2026-11-13T19:00:00Z"}
    reads: dict[str, tuple[str, JsonObject]] = {}
    for grouping in UsageGrouping:
        reads[f"{grouping}, all 90 days"] = ADMIN_KEY, {"groupBy": grouping.value}
        reads[f"{grouping}, 80 days and 14 hours"] = ADMIN_KEY, {"groupBy": grouping.value, **hours}
    filtered: tuple[JsonObject, ...] = (
        {"groupBy": "agent", "project": PROJECT_IDS[0]},
        {"groupBy": "project", "apiKey": KEY_IDS[0]},
        {"groupBy": "model", "apiKey": KEY_IDS[0]},
        {"groupBy": "day", "project": PROJECT_IDS[0], "agent": AGENT_NAMES[0][1]},
        {"groupBy": "apiKey", "tag": TAG_NAMES[0]},
    )
    for query in filtered:
        reads[f"{query['groupBy']} of one {' and '.join(set(query) - {'groupBy'})}"] = ADMIN_KEY, query | hours
    for grouping in ("agent", "apiKey", "model"):
        reads[f"{grouping}, caller of 5 projects"] = viewer, {"groupBy": grouping, **hours}
    return reads


async def read(http: aiohttp.ClientSession, service: Child, key: str, query: JsonObject) -> None:
    """Read the usage; it must hold some groups."""
    headers = {"Authorization": f"Bearer {key}"}
    async with http.get(f"{service.url}/api/v1/analytics/usage", params=query, headers=headers) as answer:
        body = await answer.json()
        assert answer.status == 200, body
        assert body["groups"], query


async def make_viewer(http: aiohttp.ClientSession, service: Child) -> str:
    """Make a key of five projects."""
    body = {"name": "five projects", "role": "viewer", "projects": PROJECT_IDS[:5]}
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with http.post(f"{service.url}/api/v1/api-keys", json=body, headers=headers) as answer:
        return (await answer.json())["key"]


async def fill(database: Database) -> None:
    """Store the buckets of all executions, and the keys."""
    keys = [
        {"_id": ObjectId(key), "name": f"Key {place}", "role": "runner", "keyHash": key, "allProjects": True}
        for place, key in enumerate(KEY_IDS)
    ]
    await collection_of(database, ApiKey).insert_many(keys)
    collections = [collection_of(database, document) for document in (UsageBucket, UsageDetail, UsageHour)]
    for collection in collections:
        await collection.drop_indexes()  # built at the end, they take a fraction of the time
    await store_buckets(database)
    for collection in collections:
        await collection.create_indexes(list(bucket_indexes()))


async def store_buckets(database: Database) -> None:
    """Store the buckets of all executions in the order of their time."""
    patterns = [pattern() for _ in range(PATTERNS)]
    drawn = [draw_day(patterns) for _ in range(DIFFERENT_DAYS)]
    stored = [encoded(buckets) for buckets in drawn]
    repeats: Counter[tuple[str, int]] = Counter()
    for place in range(DAYS):
        day = f"{FIRST_DAY + timedelta(days=place):%Y-%m-%d}"
        repeats[day[: len(MONTH)], place % DIFFERENT_DAYS] += 1
        for collection, documents in stored[place % DIFFERENT_DAYS].items():
            await insert(database, collection, [moved(document, day) for document in documents])
    months: dict[BucketKey, dict[str, int]] = {}
    for (month, place), times in repeats.items():
        for key, counts in drawn[place].sums.items():
            if key.period == MONTH:
                sums = months.setdefault(replace(key, period=month), {})
                add_to(sums, {name: count * times for name, count in counts.items()})
    for collection, documents in encoded(Buckets(months), months=True).items():
        await insert(database, collection, documents)


def draw_day(patterns: Sequence[HourUsage]) -> Buckets:
    """Count the executions of a day, in the order of their time."""
    count = EXECUTIONS // DAYS
    buckets = Buckets()
    buckets.add(executed(RANDOM.choice(patterns), f"{MONTH}-01T{place * 24 // count:02}") for place in range(count))
    return buckets


def encoded(buckets: Buckets, *, months: bool = False) -> dict[str, list[bytes]]:
    """Return the stored documents of the months, or of the hours and days, by collection."""
    found: dict[str, list[bytes]] = {}
    for key, counts in buckets.sums.items():
        if (len(key.period) == len(MONTH)) == months:
            collection = document_for(key.view, key.period).get_collection_name()
            found.setdefault(collection, []).append(bson.encode(document_of(key, counts)))
    return found


def moved(document: bytes, day: str) -> bytes:
    """Return the bucket of an hour or a day on another day, under an id of its own."""
    content = document.replace(f"{MONTH}-01".encode(), day.encode(), 1)
    start = content.index(b"_id\0") + len(b"_id\0") + BINARY_HEAD
    return content[:start] + os.urandom(ID_BYTES) + content[start + ID_BYTES :]


def pattern() -> HourUsage:
    """Count the calls of one execution by the code that counts those of real ones."""
    calls = [
        {
            "model": RANDOM.choice(MODELS),
            "purpose": RANDOM.choice(PURPOSES),
            "outcome": "error" if RANDOM.random() < 0.02 else "ok",
            "inputTokens": RANDOM.randrange(200, 8000),
            "outputTokens": RANDOM.randrange(20, 900),
            "costUsd": RANDOM.randrange(10**9) / 10**11,
            "priceStatus": "priced",
            "cached": RANDOM.random() < 0.2,
            "savedTokens": RANDOM.randrange(4000),
            "cacheStatus": "miss",
            "startedAt": "2026-08-20T00:00:00.000Z",
        }
        for _ in range(RANDOM.randrange(1, 5))
    ]
    return usage_by_hour(calls, 0)[0]


def executed(one: HourUsage, hour: str) -> tuple[HourUsage, Sequence[str]]:
    """An execution of a pattern in an hour, for a random agent, project and key."""
    slug, agent = RANDOM.choice(AGENT_NAMES)
    origin = Dimensions(slug, agent, RANDOM.choice(PROJECT_IDS), RANDOM.choice(KEY_IDS))
    tags = (RANDOM.choice(TAG_NAMES),) if RANDOM.random() < TAGGED_SHARE else ()
    return replace(one, hour=hour, origin=origin), tags


async def insert(database: Database, collection: str, documents: Sequence[bytes]) -> None:
    """Insert complete buckets."""
    for start in range(0, len(documents), BATCH):
        rows = [RawBSONDocument(document) for document in documents[start : start + BATCH]]
        await database[collection].insert_many(rows, ordered=False)  # pyright: ignore[reportArgumentType] - also a document


def document_of(key: BucketKey, counts: dict[str, int]) -> JsonObject:
    """Return the document that the updates of a bucket leave."""
    document: dict[str, Any] = {"_id": key.identity(), **key.stored()}
    for name, count in counts.items():
        *parts, last = name.split(".")
        place = document
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = count
    return document

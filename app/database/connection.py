"""The connection to MongoDB: replica sets only, majority writes, bound documents, built indexes."""

from typing import Any

import structlog
from beanie import Document, init_beanie
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from app.database.pymongo_patch import patch_client
from app.errors import StartupError
from app.models.agent_execution import AgentExecution
from app.models.api_key import ApiKey
from app.models.approval import Approval
from app.models.audit import AuditEntry, AuditMark
from app.models.budget import Budget
from app.models.cached_answer import CachedAnswer
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.models.catalog.quality_weights import QualityWeights
from app.models.execution_events import ArchivedCalls, EventPayload, ExecutionEventPage, SentPrompt
from app.models.outbox_claim import OutboxClaim
from app.models.stream_ticket import StreamTicket
from app.models.usage_bucket import UsageBucket, UsageDetail, UsageHour

DEFAULT_DATABASE = "dynamic_agents"
DOCUMENTS: tuple[type[Document], ...] = (
    Department,
    Agent,
    CustomTool,
    AgentExecution,
    ExecutionEventPage,
    EventPayload,
    SentPrompt,
    ArchivedCalls,
    ApiKey,
    StreamTicket,
    CachedAnswer,
    QualityWeights,
    UsageBucket,
    UsageDetail,
    UsageHour,
    Budget,
    Approval,
    AuditMark,
    AuditEntry,
    OutboxClaim,
)
SERVER_SELECTION_MS = 2000
CONNECT_MS = 2000
HEARTBEAT_MS = 1000
"""A hung database is detected after the sum of these three timeouts, within the five seconds before a 503.

The URI can override the last two for a distant database.
"""
MAJORITY_TIMEOUT_MS = 10_000

Raw = dict[str, Any]
Database = AsyncDatabase[Raw]

log = structlog.get_logger(__name__)


async def connect(uri: str) -> Database:
    """Open the database in the path of the URI, on a replica set.

    Every write waits for the majority, and every read returns majority-committed data, so a failover never reverts
    data that was acknowledged or shown.

    Raises:
        StartupError: the URI is malformed, the server does not answer, or it is not a replica set.
    """
    patch_client()
    timeouts: dict[str, Any] = {"connectTimeoutMS": CONNECT_MS, "heartbeatFrequencyMS": HEARTBEAT_MS}
    try:
        parsed = parse_uri(uri)
        name = parsed["database"] or DEFAULT_DATABASE
        client: AsyncMongoClient[Raw] = AsyncMongoClient(
            uri,
            tz_aware=True,
            serverSelectionTimeoutMS=SERVER_SELECTION_MS,
            **{option: value for option, value in timeouts.items() if option not in parsed["options"]},
            appname="dynamic-agents",
            w="majority",  # set on the client, from which transactions inherit it
            wTimeoutMS=MAJORITY_TIMEOUT_MS,
            readConcernLevel="majority",
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise StartupError(f"MONGODB_URI is not a MongoDB connection string: {str(error).rstrip('.')}.") from None
    except OSError as error:
        raise StartupError(f"MONGODB_URI names a file that cannot be read: {error.filename}.") from None
    try:
        hello: Raw = await client.admin.command("hello")
        refuse_standalone(hello)
    except PyMongoError as error:
        await client.close()
        reason = "refuses the login" if isinstance(error, OperationFailure) else "does not answer"
        remedy = (
            "Correct the user or the password"
            if isinstance(error, OperationFailure)
            else "Start it, or correct the address"
        )
        raise StartupError(f"MONGODB_URI: the MongoDB server {reason} ({type(error).__name__}). {remedy}.") from None
    except StartupError:
        await client.close()
        raise
    return client.get_database(
        name,
        # A date beyond the years of Python makes one document invalid, not its entire batch.
        codec_options=CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO),
    )


def refuse_standalone(hello: Raw) -> None:
    """Require a replica set or a sharded cluster, because acknowledged writes must survive a crash.

    Raises:
        StartupError: the server is standalone.
    """
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return
    raise StartupError(
        "MONGODB_URI names a standalone MongoDB server. The service needs a replica set for majority writes, "
        "transactions and change streams: start mongod with --replSet and run rs.initiate() once (one node is enough)."
    )


async def bind_documents(database: Database) -> None:
    """Bind the document classes to the database and build missing indexes."""
    await init_beanie(database=database, document_models=list(DOCUMENTS), skip_indexes=True)
    for document in DOCUMENTS:
        await build_indexes(database, document)


async def build_indexes(database: Database, document: type[Document]) -> None:
    """Build the indexes of a collection. An index that cannot be built is logged and does not stop the others."""
    collection = database[document.get_collection_name()]
    indexes = expected_indexes(document)
    try:
        await collection.create_indexes(indexes)
    except OperationFailure:
        for index in indexes:
            try:
                await collection.create_indexes([index])
            except OperationFailure as error:
                log.warning(
                    "index-build-failed", collection=collection.name, index=index.document["name"], code=error.code
                )


def expected_indexes(document: type[Document]) -> list[IndexModel]:
    """Return the indexes that a collection should have, except `_id_`."""
    return list(getattr(document, "Settings").indexes)  # noqa: B009 - Beanie's inner class has no type of its own

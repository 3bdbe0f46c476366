"""`dynamic-agents doctor`: checks everything that the service needs and reports the problems it finds."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from beanie import Document
from pymongo.errors import OperationFailure, PyMongoError
from redis.exceptions import RedisError
from rich.text import Text

from app.cli.audit.examination import examine_audit
from app.cli.document_notes import (
    WITHOUT_LARGE_FIELDS,
    Known,
    Tally,
    load_known,
    notes_of,
    problems_of,
    tally_bare_texts,
)
from app.cli.findings import MARKS, Finding, Part, in_order, summary
from app.cli.probe import print_probes
from app.cli.progress import plain
from app.cli.retention.checks import examine_retention
from app.database.clock import database_time
from app.database.connection import DOCUMENTS, Database, expected_indexes
from app.database.opening import open_database
from app.database.transactions import LONG_LIFETIME_SECONDS, TRANSACTION_LIFETIME_SECONDS
from app.demo.provider import register_demo_provider
from app.errors import StartupError
from app.kit.redis import redis_client
from app.models.agent_execution import AgentExecution
from app.models.base import PayloadDocument
from app.server.console import run_console
from app.server.server import listen
from app.services.access.admin_key import load_admin_key
from app.services.catalog.loader import problem_in
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_names import KnownModels
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.opening import problem_of
from app.services.runs.engine.queue import without_owner
from app.services.tools.builtin import load_builtin_tools
from app.services.tools.egress.guard import Egress
from app.services.tools.mcp.settings import McpServerSettings, load_mcp_servers
from app.services.tools.mcp.tools import McpConnectionState
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.settings import Settings
from app.telemetry.trace_settings import traces_endpoint
from app.telemetry.tracing import ADVICE

REDIS_SECONDS = 3
MCP_SECONDS = 30
TRANSACTION_LIFETIME = "transactionLifetimeLimitSeconds"
UNPRICED = "price unknown, so its costs are null: set input_cost_per_token and output_cost_per_token in its model_info"
MAX_NAMED = 20
MAX_WAITING = 1000
LONG_WAIT_SECONDS = 60
INDEX_OPTIONS = ("key", "unique", "partialFilterExpression")
STYLES: dict[bool | None, str] = {True: "green", False: "bold red", None: "dim"}


async def print_findings(settings: Settings, *, probe: bool = False) -> bool:
    """Print every finding, the most urgent first, and with `probe` what each model can do.

    Returns whether no problem was found.
    """
    console = run_console()
    findings = in_order([finding async for finding in examine(settings)])
    with contextlib.suppress(BrokenPipeError):  # even after `| head -3`, the exit code must be right
        for finding in findings:
            line = f"{MARKS[finding.ok]:<6}{finding.subject}: {plain(finding.text)}"
            console.print(Text(line, style=STYLES[finding.ok]))
        console.print(summary(findings), markup=False)
    healthy = all(finding.ok is not False for finding in findings)
    if probe:
        healthy = await print_probes(settings, console) and healthy
    return healthy


async def examine(settings: Settings) -> AsyncGenerator[Finding]:
    """Run all checks and yield their findings."""
    for variable in Settings.misspelled():
        yield Finding(Part.SETTINGS, "settings", False if variable.likely else None, str(variable))
    try:
        async with open_database(settings, share=True) as database:
            async for finding in examine_database(settings, database):
                yield finding
    except StartupError as error:
        yield Finding(Part.DATABASE, "MongoDB", False, str(error))
    except PyMongoError as error:
        text = f"The server stopped responding ({type(error).__name__}). Check it and the network, then run this again."
        yield Finding(Part.DATABASE, "MongoDB", False, text)
    yield examine_start(settings)
    yield await examine_redis(settings)
    async for finding in examine_tools(settings):
        yield finding
    async for finding in examine_models(settings):
        yield finding
    yield await examine_traces(settings)


async def examine_database(settings: Settings, database: Database) -> AsyncGenerator[Finding]:
    """Check the server, the indexes and the stored documents."""
    build = await database.command("buildInfo")
    hello = await database.command("hello")
    where = "embedded" if settings.embedded else "MONGODB_URI"
    replica_set = hello.get("setName", "sharded cluster")
    yield Finding(
        Part.DATABASE,
        "MongoDB",
        True,
        f"{build['version']}, replica set {replica_set}, database {database.name} ({where})",
    )
    if note := await examine_transactions(database):
        yield note
    for document in DOCUMENTS:
        yield await examine_indexes(database, document)
        async for finding in examine_unique_keys(database, document):
            yield finding
    known = await load_known(database, known_models(settings), known_mcp_servers(settings))
    for document in DOCUMENTS:
        if issubclass(document, PayloadDocument):
            async for finding in examine_documents(database, document, known):
                yield finding
    async for ok, text in examine_retention(settings, database):
        yield Finding(Part.DOCUMENTS, "archives", ok, text)
    yield await examine_runs(database)
    for found in await examine_audit(database, settings.data_dir):
        yield Finding(Part.DOCUMENTS, "audit log", found.ok, found.text)
    yield Finding(
        Part.DOCUMENTS,
        "Payload",
        None,
        "If a Payload CMS shares this database, its URI needs replicaSet=…, or its saves lose events.",
    )


async def examine_transactions(database: Database) -> Finding | None:
    """Return a note if the server reports that it keeps the locks of a dead process's transaction for long."""
    asked = {"getParameter": 1, TRANSACTION_LIFETIME: 1}
    try:
        seconds = (await database.client.admin.command(asked))[TRANSACTION_LIFETIME]
    except OperationFailure:  # without the privilege, or from a router of a sharded cluster
        return None
    if seconds <= LONG_LIFETIME_SECONDS:
        return None
    return Finding(
        Part.DATABASE,
        "transactions",
        None,
        f"{TRANSACTION_LIFETIME} is {seconds}: a run that a killed process was changing can stay locked for up to "
        f"{seconds * 1.5:.0f} s. Set it to {TRANSACTION_LIFETIME_SECONDS}, unless other programs need longer ones.",
    )


async def examine_runs(database: Database) -> Finding:
    """Check that queued runs are picked up."""
    now = await database_time(database)
    executions = database[AgentExecution.get_collection_name()]
    waiting = [raw async for raw in executions.find(without_owner(now), {"lease.until": 1}).limit(MAX_WAITING)]
    if not waiting:
        return Finding(Part.RUNS, "runs", True, "none waits for a process")
    untils = [raw["lease"]["until"] for raw in waiting]
    since = [until.replace(tzinfo=UTC) for until in untils if isinstance(until, datetime)]
    seconds = max((now - min(since, default=now)).total_seconds(), 0)
    count = f"{len(waiting)} or more" if len(waiting) == MAX_WAITING else str(len(waiting))
    text = f"{count} wait for a process, the first for {seconds:.0f} s"
    if seconds < LONG_WAIT_SECONDS:
        return Finding(Part.RUNS, "runs", None, text)
    advice = "Start 'dynamic-agents serve' or 'worker', or raise MAX_CONCURRENT_RUNS or MAX_DEPARTMENT_RUNS."
    return Finding(Part.RUNS, "runs", False, f"{text}. {advice}")


def known_models(settings: Settings) -> KnownModels:
    """Return the models that the catalog may name; `examine_models` reports problems with the configured ones."""
    try:
        configured = load_model_table(settings).names
    except StartupError:
        configured = ()
    return KnownModels(frozenset({*settings.allowed_models, *configured}))


def known_mcp_servers(settings: Settings) -> frozenset[str]:
    """Return the names of the MCP servers; `examine_tools` reports problems with their settings."""
    try:
        return frozenset(load_mcp_servers(settings.mcp_servers))
    except StartupError:
        return frozenset()


async def examine_indexes(database: Database, document: type[Document]) -> Finding:
    """Check that a collection has its indexes, by name and options."""
    name = document.get_collection_name()
    cursor = await database[name].list_indexes()
    present = {index["name"]: index async for index in cursor}
    wrong: list[str] = []
    for index in expected_indexes(document):
        wanted = index.document
        found = present.get(wanted["name"])
        if found is None:
            wrong.append(f"{wanted['name']} is missing")
        elif any(found.get(option) != wanted.get(option) for option in INDEX_OPTIONS):
            wrong.append(f"{wanted['name']} has different options")
    if wrong:
        advice = "Remove the obstacle (a duplicate document, or an index with the same name) and restart."
        return Finding(Part.DATABASE, name, False, f"{'; '.join(wrong)}. {advice}")
    return Finding(Part.DATABASE, name, True, "all indexes are there")


async def examine_unique_keys(database: Database, document: type[Document]) -> AsyncGenerator[Finding]:
    """Find unique keys that several documents share, which prevent a unique index from being built."""
    name = document.get_collection_name()
    for index in expected_indexes(document):
        wanted = index.document
        if not wanted.get("unique"):
            continue
        fields = list(wanted["key"])
        together = {field.replace(".", "_"): f"${field}" for field in fields}
        stages = [
            {"$match": wanted.get("partialFilterExpression", {})},
            {"$group": {"_id": together, "documents": {"$push": "$_id"}}},
            {"$match": {"documents.1": {"$exists": True}}},
            {"$limit": MAX_NAMED},
        ]
        async for group in await database[name].aggregate(stages, allowDiskUse=True):
            key = ", ".join(f"{field} {value}" for field, value in group["_id"].items())
            shared = ", ".join(map(str, group["documents"][:MAX_NAMED]))
            text = f"{len(group['documents'])} documents share {key or fields[0]}: {shared}. Keep one of them."
            yield Finding(Part.DATABASE, name, False, text)


async def examine_documents(
    database: Database, document: type[PayloadDocument], known: Known
) -> AsyncGenerator[Finding]:
    """Find documents that cannot be used, and count those that break each rule."""
    name = document.get_collection_name()
    unusable = 0
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    notes: defaultdict[str, Tally] = defaultdict(Tally)
    async for raw in database[name].find({}, WITHOUT_LARGE_FIELDS):
        if problem := problem_in(document, raw):
            unusable += 1
            if unusable <= MAX_NAMED:
                text = f"The document {raw['_id']} cannot be used: {problem} Correct or remove it."
                yield Finding(Part.DOCUMENTS, name, False, text)
            continue
        for broken in problems_of(document, raw, known):
            tallies[broken].add(raw)
        for note in notes_of(raw, known):
            notes[note].add(raw)
    if unusable > MAX_NAMED:
        yield Finding(
            Part.DOCUMENTS,
            name,
            False,
            f"{unusable - MAX_NAMED} more documents cannot be used. Correct those above, then run this again.",
        )
    if document is AgentExecution:
        tallies |= await tally_bare_texts(database)
    for broken, tally in tallies.items():
        yield Finding(Part.DOCUMENTS, name, False, tally.summary(broken))
    for note, tally in notes.items():
        yield Finding(Part.DOCUMENTS, name, None, tally.summary(note))


def examine_start(settings: Settings) -> Finding:
    """Check that the service could start here: its address, and the file of its admin key."""
    try:
        with contextlib.closing(listen(settings)):
            pass
        load_admin_key(settings)
    except StartupError as error:
        if "is in use" in str(error):
            return Finding(
                Part.START,
                "start",
                None,
                f"{settings.host}:{settings.port} is in use, by this service if it is running",
            )
        return Finding(Part.START, "start", False, str(error))
    return Finding(Part.START, "start", True, f"{settings.host}:{settings.port} is free")


async def examine_redis(settings: Settings) -> Finding:
    """Check that Redis responds, if it is configured."""
    if settings.redis_url is None:
        return Finding(Part.REDIS, "Redis", None, "REDIS_URL is not set. A single process does not need Redis.")
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            async with redis_client(settings.redis_url.get_secret_value()) as redis:
                await redis.execute_command("PING")
    except (RedisError, OSError, TimeoutError, ValueError) as error:
        text = (
            f"REDIS_URL: the server does not respond ({type(error).__name__}). Start it or correct the address; until "
            "then, runs and events of other processes are found up to two seconds later."
        )
        return Finding(Part.REDIS, "Redis", False, text)
    return Finding(Part.REDIS, "Redis", True, "the server responds")


async def examine_tools(settings: Settings) -> AsyncGenerator[Finding]:
    """Check that tools can run here, and note the limits that this system cannot enforce on them."""
    sandbox = ToolSandbox(timeout_seconds=settings.tool_timeout_seconds, memory_mb=settings.tool_memory_mb, workers=1)
    try:
        Egress.to(settings.tool_egress_allowlist)
        load_builtin_tools(settings.tool_modules)
        servers = load_mcp_servers(settings.mcp_servers)
        await sandbox.start()
    except StartupError as error:
        yield Finding(Part.TOOLS, "tools", False, str(error))
        return
    weaknesses = sandbox.weaknesses
    await sandbox.close()
    yield Finding(Part.TOOLS, "tools", True, "the sandbox runs")
    for weakness in weaknesses:
        yield Finding(Part.TOOLS, "tools", None, f"weaker here: {weakness}")
    async for finding in examine_mcp_servers(settings, servers):
        yield finding


async def examine_mcp_servers(settings: Settings, named: dict[str, McpServerSettings]) -> AsyncGenerator[Finding]:
    """Check that each MCP server can be started or reached, and count its tools."""
    if not named:
        return
    from app.services.tools.mcp.servers import McpServers  # noqa: PLC0415 - the SDK's import takes a second

    log_file = settings.data_dir / "mcp-servers.log"
    servers = McpServers(named, log_file=log_file, start_seconds=settings.mcp_start_seconds)
    servers.start()
    try:
        await servers.first_attempts(MCP_SECONDS)
        found = servers.describe()
    finally:
        await servers.stop()
    for server in found:
        kind = f"{server.transport}, {len(server.tools)} tools"
        ok = None if server.state is McpConnectionState.DISABLED else server.connected
        text = server.problem or kind
        if ok is False:
            advice = f"read what it printed in {log_file}" if server.transport == "stdio" else "start it"
            text += f". Its tools fail until it is connected: correct its entry in MCP_SERVERS, or {advice}."
        yield Finding(Part.MCP, f"MCP server {server.name}", ok, text)


async def examine_models(settings: Settings) -> AsyncGenerator[Finding]:
    """Check each configured model without calling it."""
    try:
        register_demo_provider()
        gateway = ModelGateway(load_model_table(settings))
    except StartupError as error:
        yield Finding(Part.MODELS, "models", False, str(error))
        return
    yield Finding(Part.MODELS, "models", None, f"from {gateway.table.source}")
    for model in gateway.describe():
        price = "price known" if model.price_known else UNPRICED
        retires = f"; its provider retires it on {model.retires_on}" if model.retires_on else ""
        yield Finding(Part.MODELS, model.name, model.usable, model.problem or f"{price}{retires}")
    for name in settings.allowed_models:
        if name not in gateway.table.names and (problem := problem_of(gateway, name)):
            yield Finding(Part.MODELS, name, None, f"agents that name it fail. {problem}")
    await gateway.close()


async def examine_traces(settings: Settings) -> Finding:
    """Check that the trace collector answers, if one is configured."""
    try:
        endpoint = traces_endpoint(settings)
    except StartupError as error:
        return Finding(Part.TRACES, "traces", False, str(error))
    if endpoint is None:
        return Finding(Part.TRACES, "traces", None, "off: OTEL_EXPORTER_OTLP_ENDPOINT is not set")
    try:
        from app.telemetry.otel import reach  # noqa: PLC0415 - an optional extra
    except ImportError:
        return Finding(Part.TRACES, "traces", False, f"The extra 'otel' is not installed. {ADVICE}")
    problem = await reach(endpoint)
    if problem is None:
        return Finding(Part.TRACES, "traces", True, "the collector accepts spans")
    advice = "Runs continue without traces. Start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT or its headers."
    return Finding(Part.TRACES, "traces", False, f"The collector {problem}. {advice}")

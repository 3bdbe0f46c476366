"""The doctor lists its findings in the order in which to fix them, each with a remedy."""

from datetime import timedelta
from pathlib import Path

import pytest

from app.cli.doctor import examine_runs, examine_traces, examine_transactions
from app.cli.findings import Finding, Part, in_order, summary
from app.database.connection import Database
from app.database.transactions import TRANSACTION_LIFETIME_SECONDS
from app.kit.times import utc_now
from app.settings import Settings
from tests.fixtures.otlp_receiver import otlp_receiver
from tests.fixtures.processes import run_command
from tests.fixtures.web_server import plain, web_server


def settings(endpoint: str | None) -> Settings:
    """Settings with a collector's address."""
    return Settings(_env_file=None, otel_exporter_otlp_endpoint=endpoint)  # pyright: ignore[reportCallIssue]


LIFETIME = "transactionLifetimeLimitSeconds"


def test_problems_come_first_in_order_of_dependency() -> None:
    found = [
        Finding(Part.MODELS, "m", False, "no key"),
        Finding(Part.SETTINGS, "settings", None, "odd"),
        Finding(Part.REDIS, "Redis", True, "the server responds"),
        Finding(Part.DOCUMENTS, "agents", False, "damaged"),
        Finding(Part.DATABASE, "departments", False, "slug_1 is missing"),
    ]

    ordered = in_order(found)

    assert [one.subject for one in ordered] == ["departments", "agents", "m", "settings", "Redis"]
    assert summary(found) == "3 problems. Begin with the first: departments."
    assert summary(found[1:3]) == "Nothing is wrong."


async def test_the_output_begins_with_the_database_and_ends_with_a_summary(
    tmp_path: Path, database_uri: str, database: Database
) -> None:
    await database["departments"].drop_index("slug_1")
    await database["departments"].insert_many([{"slug": "story", "name": "A"}, {"slug": "story", "name": "B"}])
    given = {"MONGODB_URI": database_uri, "REDIS_URL": "redis://127.0.0.1:9", "MODELS_CONFIG": "/no/such.yaml"}
    tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}

    code, printed = await run_command("doctor", cwd=tmp_path, **given, **tracing)

    lines = printed.splitlines()
    subjects = [line.split()[1] for line in lines if line.startswith("WRONG")]
    marks = [line.split()[0] for line in lines if line.split()[0] in ("WRONG", "note", "ok")]
    assert code == 1
    assert [one.rstrip(":") for one in subjects if one != "departments:"] == ["Redis", "models", "traces"]
    assert subjects[0] == "departments:"
    assert marks == sorted(marks, key=("WRONG", "note", "ok").index)
    assert lines[-1].endswith("Begin with the first: departments.")


async def test_a_server_that_keeps_the_locks_of_dead_processes_for_long_is_noted(database: Database) -> None:
    admin = database.client.admin
    before = await admin.command({"getParameter": 1, LIFETIME: 1})
    try:
        found = dict[int, Finding | None]()
        for seconds in (TRANSACTION_LIFETIME_SECONDS, 60):
            await admin.command({"setParameter": 1, LIFETIME: seconds})
            found[seconds] = await examine_transactions(database)
    finally:
        await admin.command({"setParameter": 1, LIFETIME: before[LIFETIME]})

    assert found[TRANSACTION_LIFETIME_SECONDS] is None
    assert found[60] is not None
    assert found[60].ok is None
    assert "for up to 90 s" in found[60].text


async def test_runs_that_wait_for_long_are_a_problem(database: Database) -> None:
    executions = database["agent-executions"]
    found = [await examine_runs(database)]
    for place, seconds in enumerate((5, 600)):
        lease = {"owner": "", "until": utc_now() - timedelta(seconds=seconds)}
        await executions.insert_one({"executionId": f"exec_{place}", "lease": lease})
        found.append(await examine_runs(database))

    assert [one.ok for one in found] == [True, None, False]
    assert found[2].text.startswith("2 wait for a process, the first for 60")
    assert "Start 'dynamic-agents serve'" in found[2].text


async def test_a_collector_is_tried_without_sending_a_span() -> None:
    async with otlp_receiver() as collector, web_server() as other:
        other.answers["/v1/traces"] = plain(b"", status=b"401 Unauthorized")
        found = [
            await examine_traces(settings(url)) for url in (None, collector.url, other.url(""), "http://127.0.0.1:9")
        ]

    assert [one.ok for one in found] == [None, True, False, False]
    assert "answers with 401" in found[2].text
    assert "does not answer (ConnectError). Runs continue" in found[3].text
    assert collector.spans == []


async def test_invalid_variables_of_traces_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    found = await examine_traces(settings("http://127.0.0.1:9"))

    assert (found.part, found.ok) == (Part.TRACES, False)
    assert found.text.startswith("OTEL_EXPORTER_OTLP_PROTOCOL is invalid")

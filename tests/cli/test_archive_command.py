"""Old runs archived from the command line, and the doctor's look at archives."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.cli.retention.archive import days_of
from app.cli.retention.checks import examine_directory, examine_retention
from app.database.connection import Database, Raw, bind_documents, connect
from app.errors import StartupError
from app.events.archive.reader import Archives
from app.models.agent_execution import AgentExecution
from app.services.retention.passes import RetentionPass
from app.settings import Settings
from tests.fixtures.processes import run_command

LONG_AGO = datetime(2020, 1, 31, tzinfo=UTC)


def settings_of(**given: object) -> Settings:
    """Settings of a test, without those of the machine."""
    return Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue, reportArgumentType] - any setting


def archives_in(directory: Path) -> list[str]:
    """The names of the compressed files."""
    return sorted(path.name for path in directory.rglob("*.zst"))


async def old_run(database: Database, name: str, **fields: object) -> None:
    """Store a run of one event that ended long ago."""
    event: Raw = {"type": "agent-complete", "seq": 1, "executionId": name, "rootExecutionId": name}
    event |= {"timestamp": "2020-01-31T00:00:00.000Z", "agentId": "ada-001", "output": {"text": "Done."}}
    document: Raw = {"executionId": name, "rootExecutionId": name, "prompt": "Write.", "status": "completed"}
    document |= {"completedAt": LONG_AGO, "lastSeq": 1, "fence": 1, "output": {"text": "Done."}, "updatedAt": LONG_AGO}
    rows = [{"event": event, "id": "5f0000000000000000000001"}]
    await database[AgentExecution.get_collection_name()].insert_one({**document, "events": rows, **fields})


@pytest.mark.parametrize(("text", "days"), [("90d", 90), ("12h", 0.5), ("1.5d", 1.5), (None, 30)])
def test_an_age_is_in_days_or_hours(text: str | None, days: float) -> None:
    assert days_of(text, settings_of(execution_retention_days=30)) == days


@pytest.mark.parametrize("text", ["90", "d", "-1d", "90 days", None])
def test_another_age_is_refused(text: str | None) -> None:
    with pytest.raises(StartupError, match="90d"):
        days_of(text, settings_of())


@pytest.mark.slow
async def test_a_dry_run_says_what_would_happen_and_the_command_does_it(database_uri: str, tmp_path: Path) -> None:
    database = await connect(database_uri)
    await bind_documents(database)
    await old_run(database, "exec_1_a")
    await old_run(database, "exec_1_b")
    await old_run(database, "exec_1_c", legalHold=True)
    variables = {"MONGODB_URI": database_uri, "DATA_DIR": str(tmp_path)}

    dry = await run_command("archive", "--older-than", "90d", "--dry-run", cwd=tmp_path, **variables)
    nothing = archives_in(tmp_path)
    done = await run_command("archive", "--older-than", "90d", cwd=tmp_path, **variables)
    again = await run_command("archive", "--older-than", "90d", cwd=tmp_path, **variables)
    archived = archives_in(tmp_path)
    await database.client.close()

    assert dry[0] == 0, dry[1]
    assert dry[1].startswith("2 runs would be archived (2 executions, 2 events, the oldest ended at 2020-01-31")
    assert "1 run left: under a legal hold." in dry[1]
    assert nothing == []
    assert (done[0], done[1].startswith("2 runs archived (2 events")) == (0, True), done[1]
    assert (again[0], again[1].startswith("0 runs archived")) == (0, True), again[1]
    assert archived == ["exec_1_a.jsonl.zst", "exec_1_b.jsonl.zst"]


@pytest.mark.slow
async def test_the_doctor_names_a_backlog_and_damaged_archives(database_uri: str, tmp_path: Path) -> None:
    database = await connect(database_uri)
    await bind_documents(database)
    settings = settings_of(execution_retention_days=90, data_dir=tmp_path)
    await old_run(database, "exec_1_a")
    archives = Archives.under(tmp_path)

    late = [check async for check in examine_retention(settings, database)]
    await RetentionPass(database, archives, share=1).run(datetime.now(UTC))
    good = [check async for check in examine_retention(settings, database)]
    (tmp_path / "archive" / "2020-01" / "exec_1_a.jsonl.zst").write_bytes(b"")
    damaged = [check async for check in examine_retention(settings, database)]
    await database.client.close()

    assert [(ok, text) for ok, text in late if ok is False and "no pass has ended yet" in text]
    assert [ok for ok, _ in good] == [True, True, True]
    assert good[-1][1] == "1 archive verified"
    assert (damaged[-1][0], "exec_1_a.jsonl.zst has 0 bytes" in damaged[-1][1]) == (False, True)


def test_the_doctor_names_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("a file where a directory belongs")

    ok, text = examine_directory(tmp_path / "archive")

    assert (ok, "cannot be written" in text) == (False, True)

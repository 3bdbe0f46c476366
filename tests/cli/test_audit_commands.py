"""`dynamic-agents audit`: the exit code tells whether the log matches, in the database and in an export."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from app.cli.audit.examination import examine_audit
from app.database.collections import collection_of
from app.database.connection import Database
from app.kit.times import utc_now
from app.models.audit import AuditEntry, AuditMark
from app.services.audit.head_notes import FILE_NAME, HeadNotes, last_noted
from tests.fixtures.audit_chains import leave_marks, make_chain
from tests.fixtures.processes import run_command


@pytest.mark.slow
async def test_the_log_is_verified_exported_and_verified_without_the_database(
    database: Database, database_uri: str, tmp_path: Path
) -> None:
    chain = await make_chain(database, 30)
    export, head = tmp_path / "audit.jsonl", f"30:{chain[-1]['hash']}"

    async def audit(*arguments: str) -> tuple[int, str]:
        return await run_command("audit", *arguments, cwd=tmp_path, MONGODB_URI=database_uri)

    good = await audit("verify", "--head", head)
    written = await audit("export", "--output", str(export))
    printed = await audit("export")
    offline = await audit("verify", str(export), "--head", head)
    lines = export.read_text().splitlines()
    (tmp_path / "cut.jsonl").write_text("\n".join(lines[:20]))
    (tmp_path / "changed.jsonl").write_text("\n".join(lines).replace("agent-7", "agent-8"))
    (tmp_path / "odd.jsonl").write_text("no entry")
    cut = await audit("verify", "cut.jsonl", "--head", head)
    changed = await audit("verify", "changed.jsonl")
    odd = await audit("verify", "odd.jsonl")
    missing = await audit("verify", "missing.jsonl")
    wrong = await audit("verify", "--head", "7")
    await leave_marks(database, 2)
    await collection_of(database, AuditEntry).delete_one({"_id": 9})
    bad = await audit("verify")

    assert (good[0], f"Head: {head}" in good[1], "without an entry" in good[1]) == (0, True, False), good[1]
    assert (written[0], "30 entries" in written[1]) == (0, True), written[1]
    assert [json.loads(line) for line in lines] == chain == [json.loads(line) for line in printed[1].splitlines()]
    assert (offline[0], "30 entries" in offline[1]) == (0, True), offline[1]
    assert (cut[0], "at entry 21" in cut[1]) == (1, True), cut[1]
    assert (changed[0], "at entry 7" in changed[1]) == (1, True), changed[1]
    assert (odd[0], "at entry 1" in odd[1]) == (1, True), odd[1]
    assert (missing[0], "cannot be read" in missing[1]) == (1, True), missing[1]
    assert (wrong[0], "SEQ:HASH" in wrong[1]) == (1, True), wrong[1]
    assert (bad[0], "at entry 9" in bad[1], "2 changes without an entry yet" in bad[1]) == (1, True, True), bad[1]


async def test_heads_are_noted_and_the_doctor_compares_them(database: Database, tmp_path: Path) -> None:
    chain = await make_chain(database, 3)
    notes = HeadNotes.under(database, tmp_path / "data")
    await notes.note()
    await notes.note()
    lines = (tmp_path / "data" / FILE_NAME).read_text().splitlines()
    head = last_noted(notes.path)
    assert [line.partition(" ")[2] for line in lines] == [f"3:{chain[-1]['hash']}"] == [str(head)]
    assert [one.ok for one in await examine_audit(database, tmp_path / "data")] == [True, True]

    await leave_marks(database, 1)
    late = {"$set": {"at": utc_now() - timedelta(minutes=5)}}
    await collection_of(database, AuditMark).update_one({}, late)
    await collection_of(database, AuditEntry).delete_one({"_id": 3})
    backlog, cut = await examine_audit(database, tmp_path / "data")

    assert (backlog.ok, "1 change waited" in backlog.text) == (False, True)
    assert (cut.ok, "ends with entry 2" in cut.text) == (False, True)
    await collection_of(database, AuditEntry).delete_one({"_id": 1})
    assert "broken at entry 1" in (await examine_audit(database, tmp_path))[1].text


async def test_a_directory_that_cannot_be_written_stops_no_notes(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    await HeadNotes.under(database, tmp_path / "file").note()

    assert last_noted(tmp_path / "file" / FILE_NAME) is None

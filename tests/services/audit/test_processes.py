"""Processes that write at the same time, and die: one dense chain, and each change in it once."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import pytest

from app.database.collections import collection_of
from app.database.connection import Database
from app.models.audit import AuditMark
from app.models.budget import Budget
from app.services.audit.appender import AuditAppender
from tests.fixtures.audit_chains import assert_dense, read_chain

ROOT = Path(__file__).parents[3]
CHANGES = 40
DEATHS = {"first": "before-audit-append:kill:2", "second": "after-audit-append:kill:3", "third": ""}
"""The processes by name, and where each dies."""


async def start(uri: str, name: str, failpoints: str) -> Process:
    command = (sys.executable, "-m", "tests.fixtures.audit_writer", uri, name, str(CHANGES))
    environment = {**os.environ, "FAILPOINTS": failpoints}
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=ROOT, env=environment)


@pytest.mark.slow
async def test_three_processes_make_one_dense_chain_whichever_dies(database: Database, database_uri: str) -> None:
    processes = [await start(database_uri, name, place) for name, place in DEATHS.items()]
    async with asyncio.timeout(120):
        printed = [(await process.communicate())[0].decode().split() for process in processes]
    while await AuditAppender(database).append_pending():
        pass

    chain = await read_chain(database)
    recorded = Counter(entry["target"]["key"] for entry in chain)
    stored = {raw["scope"] async for raw in collection_of(database, Budget).find({}, {"scope": 1})}
    assert [process.returncode for process in processes] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert_dense(chain, len(chain))
    assert set(recorded.values()) == {1}
    assert recorded.keys() == stored >= {scope for scopes in printed for scope in scopes}
    assert len(printed[2]) == CHANGES
    assert await collection_of(database, AuditMark).count_documents({}) == 0

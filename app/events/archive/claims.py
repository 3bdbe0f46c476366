"""Claims on archive files that no document refers to, not yet or no longer: the `retention-exports` collection.

An export stores a claim before it writes a file, and a deletion does so in the transaction that removes the documents.
A claim is removed once its files are in their final state, so the leftovers of a process that died are found and
cleaned up.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from app.database.connection import Database
from app.database.transactions import Session
from app.events.archive.form import MONTH, SAFE_ID, data_name, manifest_name
from app.events.archive.reader import Archives, remove_files

CLAIMS = "retention-exports"
"""The root's id is the `_id`; `month` names the directory of its files, `owner` the process that writes them."""
DELETED = "deleted"
"""The owner of the claim that a deletion leaves."""


async def claim_removal(database: Database, raw: Mapping[str, Any], session: Session) -> None:
    """Record, in the transaction that deletes an archived root, that its files have to be removed."""
    named: Any = raw.get("archive")
    if raw.get("archivedAt") is not None and isinstance(named, dict):
        claim = {"$set": {"month": str(named.get("month")), "owner": DELETED}}
        await database[CLAIMS].update_one({"_id": raw["executionId"]}, claim, upsert=True, session=session)


async def remove_claimed(database: Database, archives: Archives, root_id: str) -> None:
    """Remove a root's files if a deletion has claimed them.

    Raises:
        OSError: a file cannot be removed; the claim stays.
    """
    selector = {"_id": root_id, "owner": DELETED}
    claim = await database[CLAIMS].find_one(selector)
    if claim is not None:
        if SAFE_ID.fullmatch(root_id) and MONTH.fullmatch(claim["month"]):
            folder = archives.directory / claim["month"]
            await asyncio.to_thread(remove_files, [folder / data_name(root_id), folder / manifest_name(root_id)])
        await database[CLAIMS].delete_one(selector)

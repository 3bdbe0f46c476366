"""The numbers of events in stored documents, which another program may have replaced with any value.

No run has more than a billion events. A document that states a higher number is damaged, and its rows and pages count
instead. Reads and allocations never grow with a number that a document merely states.
"""

import math
from collections.abc import Iterable
from typing import Any

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.expressions import array_in
from app.models.agent_execution import AgentExecution
from app.models.execution_events import ExecutionEventPage

MAX_SEQ = 10**9
NUMBERS_OF_ROWS = {"$filter": {"input": array_in("$events.event.seq"), "cond": {"$isNumber": "$$this"}}}


def claimed_seq(value: Any) -> int | None:  # noqa: ANN401 - any stored value
    """Return the event number in a field: 0 if it is unset, `None` if it is not a valid number."""
    if value is None:
        return 0
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return int(value) if 0 <= value <= MAX_SEQ else None


def plausible(values: Iterable[Any]) -> list[int]:
    """Return the valid event numbers among some values."""
    return [number for value in values if (number := claimed_seq(value)) is not None]


async def last_seq_of(database: Database, raw: Raw) -> int:
    """Return the number of an execution's last event, from its document, or else from its stored events."""
    claimed = claimed_seq(raw.get("lastSeq"))
    return claimed if claimed is not None else await highest_stored_seq(database, raw["executionId"])


async def highest_stored_seq(database: Database, execution_id: str) -> int:
    """Return the highest number among an execution's stored events."""
    highest = 0
    for document in (AgentExecution, ExecutionEventPage):
        pipeline = [{"$match": {"executionId": execution_id}}, {"$project": {"numbers": NUMBERS_OF_ROWS}}]
        async for found in await collection_of(database, document).aggregate(pipeline):
            highest = max([highest, *plausible(found["numbers"])])
    return highest

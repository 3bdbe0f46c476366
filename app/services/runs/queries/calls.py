"""The ledger rows of an execution or of a run tree, read from the events that report them."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from beanie import Document

from app.database.connection import Database
from app.database.expressions import array_in
from app.kit.json_values import JsonObject
from app.kit.paging import LIST_MILLISECONDS, PageRequest, forged_cursor
from app.kit.schemas import ApiModel, Page, Timestamp
from app.models.agent_execution import AgentExecution
from app.models.execution_events import ArchivedCalls, ExecutionEventPage
from app.services.access.api_keys import Caller
from app.services.llm.calls import CacheStatus, CallOutcome, PriceStatus, RunPurpose, UsageStatus
from app.services.runs.queries.executions import ExecutionQueries

Sources = Sequence[type[Document]]
"""The collections that have the events of a tree with ledger rows, in the form of pages."""
PLACE = re.compile(r"(-?)(\d{1,16})\.(\d{1,9})")


class ModelCallRead(ApiModel):
    """One attempt sent to a model provider, or one answer from the response cache."""

    call_id: str
    """The id of the row."""
    seq: int
    """The number of the event that reports the call."""
    execution_id: str
    """The execution that the call served."""
    root_execution_id: str
    """The root of its run tree."""
    agent: str | None
    """The id of the agent whose execution it served."""
    department: str | None
    """The slug of that agent's department."""
    project: str | None
    """The id of the run's CMS project."""
    api_key: str | None
    """The id of the API key that started the run; `null` if no key did."""
    purpose: RunPurpose
    """The purpose of the call."""
    model: str
    """The name of the model in records."""
    deployment: str
    """LiteLLM's name of the model that was called."""
    attempt: int
    """The number of the attempt, from 1: failed attempts have rows too."""
    outcome: CallOutcome
    """Whether the attempt gave a usable answer."""
    error_code: str | None = None
    """The code of its error; `null` if it succeeded."""
    input_tokens: int
    """The tokens of the request, as the provider counted them; 0 if it did not."""
    output_tokens: int
    """The tokens of the answer, reasoning included."""
    cache_read_tokens: int
    """The part of the input that the provider read from its prompt cache."""
    cache_write_tokens: int
    """The part of the input that the provider wrote to its prompt cache."""
    reasoning_tokens: int
    """The part of the output that the model used to reason."""
    cost_usd: float | None
    """The cost in US dollars; `null` if the price or the tokens are unknown."""
    price_status: PriceStatus
    """Whether the price is known."""
    cached: bool
    """Whether the answer came from the response cache: it then has no tokens and costs nothing."""
    cache_status: CacheStatus
    """The role of the response cache in the call."""
    saved_tokens: int
    """The tokens that a cached answer saved."""
    saved_cost_usd: float | None
    """The cost that a cached answer saved; `null` if it is unknown."""
    usage_status: UsageStatus
    """How trustworthy the provider's count of tokens is."""
    reported_usage: dict[str, str] | None = None
    """An implausible count as the provider reported it; otherwise `null`."""
    batch_id: str | None = None
    """The batch of outputs judged in the same call, if the row is a share of that call; otherwise `null`."""
    duration_ms: int
    """How long the attempt took, in milliseconds."""
    started_at: Timestamp
    """When the attempt was sent."""


@dataclass(frozen=True)
class CallQueries:
    """Reads ledger rows."""

    database: Database
    executions: ExecutionQueries

    async def list_calls(self, execution_id: str, page: PageRequest, caller: Caller) -> Page:
        """Return the rows of an execution, or of the tree below a root, in the order of their events or its reverse.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
            InvalidInput: the cursor does not belong to this list.
        """
        execution = await self.executions.find_visible(execution_id, caller)
        is_root = execution.root_id == execution_id
        selector: JsonObject = {"rootExecutionId" if is_root else "executionId": execution_id}
        after = place_of(page) if page.cursor is not None else None
        sources = [ArchivedCalls] if execution.archived_at else [AgentExecution, ExecutionEventPage]
        rows = await self._read(sources, selector, page, after)
        items = [ModelCallRead.model_validate(found["row"]) for found in rows[: page.limit]]
        last = rows[page.limit - 1] if len(rows) > page.limit else None
        return Page(items, await self._count(sources, selector), cursor_of(last, page.sort) if last else None)

    async def _read(
        self, sources: Sources, selector: JsonObject, page: PageRequest, after: tuple[int, int] | None
    ) -> list[JsonObject]:
        """Return the rows of a page and one more row, if there is one, after the place where the page begins."""
        is_ascending = page.direction > 0
        from_seq = after[0] if after and is_ascending else 0
        extract: list[JsonObject] = [
            *reporting_events(from_seq),
            {"$unwind": {"path": "$rows.event.calls", "includeArrayIndex": "place"}},
            {"$replaceWith": {"row": "$rows.event.calls", "place": "$place"}},
        ]
        if after is not None:
            beyond = "$gt" if is_ascending else "$lt"
            seq, place = after
            extract.append(
                {"$match": {"$or": [{"row.seq": {beyond: seq}}, {"row.seq": seq, "place": {beyond: place}}]}}
            )
        matched = [{"$match": selector | {"lastSeq": {"$gte": from_seq}}}, *extract]
        order = {"row.seq": page.direction, "place": page.direction}
        return await self._find_in(sources, matched, [{"$sort": order}, {"$limit": page.limit + 1}])

    async def _count(self, sources: Sources, selector: JsonObject) -> int:
        counted: list[JsonObject] = [*reporting_events(0), {"$project": {"count": {"$size": "$rows.event.calls"}}}]
        total: list[JsonObject] = [{"$group": {"_id": None, "count": {"$sum": "$count"}}}]
        return sum(one["count"] for one in await self._find_in(sources, [{"$match": selector}, *counted], total))

    async def _find_in(self, sources: Sources, matched: list[JsonObject], then: list[JsonObject]) -> list[JsonObject]:
        """Return what the stages find in all sources together, after further stages."""
        first, *others = (source.get_collection_name() for source in sources)
        union = [{"$unionWith": {"coll": name, "pipeline": matched}} for name in others]
        collection = self.database[first]
        async with await collection.aggregate([*matched, *union, *then], maxTimeMS=LIST_MILLISECONDS) as found:
            return await found.to_list()


def reporting_events(seq: int) -> list[JsonObject]:
    """Return the stages that extract the events from number `seq` on that report calls."""
    reports = {"$isArray": "$$this.event.calls"}
    wanted = {"$and": [reports, {"$isNumber": "$$this.event.seq"}, {"$gte": ["$$this.event.seq", seq]}]}
    rows = {"$filter": {"input": array_in("$events"), "cond": wanted}}
    return [{"$project": {"rows": rows}}, {"$unwind": "$rows"}]


def cursor_of(found: JsonObject, sort: str) -> str:
    """Return the cursor that continues after a row."""
    sign = "-" if sort.startswith("-") else ""
    return base64.urlsafe_b64encode(f"{sign}{int(found['row']['seq'])}.{int(found['place'])}".encode()).decode()


def place_of(page: PageRequest) -> tuple[int, int]:
    """Return the number of an event and the position of a row in it, after which a page begins.

    Raises:
        InvalidInput: the cursor does not belong to this list.
    """
    try:
        match = PLACE.fullmatch(base64.urlsafe_b64decode((page.cursor or "").encode()).decode())
    except ValueError:
        match = None
    if match is None or (match[1] == "-") != page.sort.startswith("-"):
        raise forged_cursor()
    return int(match[2]), int(match[3])

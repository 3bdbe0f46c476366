"""No document passes 12 MB, and an ending can always be written, whatever a run was given and made."""

import json

import bson
import pytest
from pydantic import JsonValue

from app.models.agent_execution import AgentExecution
from app.services.runs.work.conversations import MAX_DOCUMENT_BYTES, MAX_RUN_STATE_BYTES, with_history
from tests.fixtures.model_server import ModelServer, completion
from tests.fixtures.runs import ADA, Catalog, first_then, stored
from tests.fixtures.services import Service

ONES = [1] * 90_000
"""About 1 MB in BSON."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of requests over 1 MiB
async def test_a_run_that_is_large_in_all_its_parts_ends_with_its_answer(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_tool("echo", executeFunction="() => Array(32000).fill(1)")
    answer = json.dumps(["x" * 500_000, "x" * 400_000])
    model_server.on("work", first_then(completion(None, *[("echo", {})] * 16), answer))

    done = await service.run_agent(ADA, judge=False, prompt="🎬" * 100_000, params={"a": ONES})

    document = await stored(service, done["executionId"])
    assert (done["status"], done["output"]["text"]) == ("completed", answer)
    assert 3_000_000 < len(bson.encode(document)) < MAX_DOCUMENT_BYTES
    assert len(bson.encode({"events": document["events"]})) < 1.1 * 2**20
    assert [message["role"] for message in done["runState"]["messages"][:3]] == ["system", "user", "assistant"]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("params", "messages", "is_kept"),
    [
        (None, [{"role": "user", "content": "x" * (MAX_RUN_STATE_BYTES - 1000)}], True),
        (None, [{"role": "user", "content": "x" * MAX_RUN_STATE_BYTES}], False),
        ({"a": ONES * 6}, [{"role": "user", "content": "x" * (MAX_RUN_STATE_BYTES - 1000)}], False),
        ({"a": ONES * 6}, [{"role": "user", "content": "x" * 2_000_000}], True),
    ],
    ids=["fits", "too large", "no room beside the parameters", "room beside the parameters"],
)
async def test_a_history_is_kept_where_its_document_has_room_for_it(
    params: JsonValue, messages: list[dict[str, str]], *, is_kept: bool
) -> None:
    execution = AgentExecution(execution_id="exec_a", params=params)
    output = {"text": "x" * 2**20}

    history = with_history({"output": output}, messages, execution)["runState"]

    assert history["messages"] == (messages if is_kept else [])
    assert ("omitted" in history) is not is_kept
    events = "x" * 2**20
    assert len(bson.encode({"a": params, "b": output, "c": history, "d": events})) < MAX_DOCUMENT_BYTES

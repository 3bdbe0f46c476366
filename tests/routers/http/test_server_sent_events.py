"""Server-Sent Events: the same events as the socket's, in frames that no text can forge."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app.routers.http import server_sent_events
from tests.fixtures.http_api import Gate, NewKey, assert_problem, insert_foreign_executions, start_run, wrong_fields
from tests.fixtures.model_server import ModelServer, completion
from tests.fixtures.services import Service

Frame = dict[str, str]


def frames_in(text: str) -> list[Frame]:
    """The frames of a stream as a browser reads them; comments are left out."""
    frames: list[Frame] = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            frames.append({name: value for name, _, value in (line.partition(": ") for line in lines)})
    return frames


async def stream(service: Service, execution_id: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own options
    """A stream read to its end."""
    return await service.http.get(f"/api/v1/executions/{execution_id}/events/stream", **options)


async def test_a_finished_run_streams_every_event_with_its_number_and_type_then_the_end(
    shared_service: Service,
) -> None:
    run = await shared_service.run_department("story")

    answer = await stream(shared_service, run["executionId"])

    *frames, end = frames_in(answer.text)
    events = await shared_service.events(run["executionId"])
    assert [json.loads(frame["data"]) for frame in frames] == events
    assert [(frame["id"], frame["event"]) for frame in frames] == [(str(one["seq"]), one["type"]) for one in events]
    assert (end["event"], "id" in end) == ("execution-end", False)
    assert json.loads(end["data"]) == {
        "type": "execution-end",
        "executionId": run["executionId"],
        "status": "completed",
        "lastSeq": run["lastSeq"],
    }
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")


async def test_a_run_streams_its_events_live(shared_service: Service, gate: Gate, project: str) -> None:
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()

    async with shared_service.http.stream("GET", f"/api/v1/executions/{execution_id}/events/stream") as answer:
        texts = answer.aiter_text()
        first = await anext(texts)
        gate.opened.set()
        rest = "".join([text async for text in texts])

    assert [frame["event"] for frame in frames_in(first)] == ["agent-start"]
    assert [frame["event"] for frame in frames_in(rest)] == ["agent-response", "agent-complete", "execution-end"]


@pytest.mark.parametrize(
    "resume",
    [
        {"headers": {"Last-Event-ID": "2"}},
        {"params": {"after": "2"}},
        {"params": {"after": "1"}, "headers": {"Last-Event-ID": "2"}},
        {"params": {"after": "2"}, "headers": {"Last-Event-ID": ""}},
    ],
    ids=["header", "query", "header wins", "an empty header is ignored"],
)
async def test_a_stream_resumes_after_the_last_event_seen(shared_service: Service, resume: dict[str, Any]) -> None:
    run = await shared_service.run_agent("plot-specialist-001")

    answer = await stream(shared_service, run["executionId"], **resume)

    assert [frame.get("id") for frame in frames_in(answer.text)] == [
        *(str(seq) for seq in range(3, run["lastSeq"] + 1)),
        None,
    ]


@pytest.mark.parametrize("beyond", [0, 1, 2**53 - 1000])
async def test_when_nothing_more_can_come_the_answer_is_204(shared_service: Service, beyond: int) -> None:
    run = await shared_service.run_agent("plot-specialist-001")

    headers = {"Last-Event-ID": str(run["lastSeq"] + beyond)}
    answer = await stream(shared_service, run["executionId"], params={"after": "1"}, headers=headers)

    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("asked", [{"params": {"after": "1"}}, {"headers": {"Last-Event-ID": "1"}}])
async def test_resuming_beyond_the_last_event_is_422_and_not_a_gap(
    shared_service: Service, asked: dict[str, dict[str, str]]
) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1)

    answer = await stream(shared_service, execution_id, **asked)

    assert_problem(answer, 422, "seq-out-of-range")


@pytest.mark.parametrize("garbage", ["abc", "-1", "1.5", "1e3", "0x10", "99999999999999999999", "1 2", "²"])
async def test_a_garbage_last_event_id_is_422(shared_service: Service, garbage: str) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1)

    for params in ({}, {"after": "3"}):
        answer = await stream(shared_service, execution_id, params=params, headers={"Last-Event-ID": garbage.encode()})

        assert wrong_fields(answer) == ["Last-Event-ID"]


@pytest.mark.parametrize("garbage", ["abc", "-1", "1e18", str(10**18), ""])
async def test_a_garbage_after_is_422(shared_service: Service, garbage: str) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1)

    answer = await stream(shared_service, execution_id, params={"after": garbage})

    assert wrong_fields(answer) == ["after"]


async def test_an_empty_last_event_id_is_ignored(shared_service: Service) -> None:
    run = await shared_service.run_agent("plot-specialist-001")

    answer = await stream(shared_service, run["executionId"], headers={"Last-Event-ID": ""})

    assert frames_in(answer.text)[0]["id"] == "1"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\u2028", "\x0b", "\x85"])
async def test_a_text_with_line_ends_and_field_names_cannot_forge_a_frame(
    shared_service: Service, model_server: ModelServer, line_end: str
) -> None:
    forgery = f"x{line_end}{line_end}id: 99{line_end}event: execution-end{line_end}data: {{}}{line_end}{line_end}"
    model_server.on("work", completion(forgery))
    run = await shared_service.run_agent("plot-specialist-001", prompt=forgery, judge=False)

    answer = await stream(shared_service, run["executionId"])

    *frames, end = frames_in(answer.text)
    assert [frame["id"] for frame in frames] == ["1", "2", "3"]
    assert json.loads(frames[0]["data"])["prompt"] == forgery
    assert json.loads(frames[1]["data"])["content"] == forgery
    assert json.loads(end["data"])["lastSeq"] == 3
    assert "\r" not in answer.text


@pytest.mark.parametrize(
    "kind",
    ['agent-start\nid: 77\ndata: {"type":"forged"}\n\n', "x\r", "", "x" * 65, "Émile", None, 7.5, ["a"]],
    ids=repr,
)
async def test_an_event_type_of_another_program_cannot_forge_a_frame(shared_service: Service, kind: Any) -> None:  # noqa: ANN401 - any BSON value
    rows = [{"event": {"type": kind, "agentId": "a"}}, {"event": {"type": "tool_call-2"}}]
    (execution_id,) = await insert_foreign_executions(shared_service, 1, status="completed", events=rows)

    *frames, _ = frames_in((await stream(shared_service, execution_id)).text)

    assert [(frame["id"], frame["event"]) for frame in frames] == [("1", "unknown"), ("2", "tool_call-2")]
    assert [json.loads(frame["data"])["type"] for frame in frames] == ["unknown", "tool_call-2"]


async def test_a_quiet_stream_carries_a_comment_now_and_then(
    shared_service: Service, gate: Gate, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_sent_events, "HEARTBEAT_SECONDS", 0.05)
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()

    received = ""
    async with shared_service.http.stream("GET", f"/api/v1/executions/{execution_id}/events/stream") as answer:
        async for text in answer.aiter_text():
            received += text
            if received.count(server_sent_events.HEARTBEAT.decode()) >= 2:
                gate.opened.set()

    assert server_sent_events.HEARTBEAT.startswith(b":")
    assert [frame["event"] for frame in frames_in(received)] == [
        "agent-start",
        "agent-response",
        "agent-complete",
        "execution-end",
    ]


async def test_a_stream_whose_stored_events_were_removed_says_so_and_ends(shared_service: Service) -> None:
    run = await shared_service.run_agent("plot-specialist-001")
    executions = shared_service.services.database["agent-executions"]
    await executions.update_one({"executionId": run["executionId"]}, {"$set": {"events": []}})

    answer = await stream(shared_service, run["executionId"])

    (frame,) = frames_in(answer.text)
    assert frame["event"] == "error"
    assert json.loads(frame["data"])["code"] == "events-missing"


async def test_a_client_that_leaves_leaves_no_buffer_behind(shared_service: Service, gate: Gate, project: str) -> None:
    execution_id = await start_run(shared_service, project)
    await gate.reached.wait()
    path = f"/api/v1/executions/{execution_id}/events/stream?after=1"

    async with shared_service.http.stream("GET", path):
        assert not shared_service.services.bus.wants_deltas(execution_id)

    async with asyncio.timeout(5):
        while execution_id in shared_service.services.bus._buffers:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportPrivateUsage] # noqa: ASYNC110 - the server notices in its own time
            await asyncio.sleep(0.01)
    gate.opened.set()


async def test_unknown_executions_and_those_of_other_projects_are_not_found(
    shared_service: Service, new_key: NewKey, project: str
) -> None:
    run = await shared_service.run_agent("plot-specialist-001")
    headers = await new_key("viewer", project)

    unknown = await stream(shared_service, "exec_unknown")
    hidden = await stream(shared_service, run["executionId"], headers=headers)

    assert_problem(unknown, 404, "execution-not-found")
    assert_problem(hidden, 404, "execution-not-found")

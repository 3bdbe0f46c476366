"""Executions over HTTP: the record of every run, its events and its tree."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from bson import ObjectId

from app.kit.times import iso_milliseconds
from tests.fixtures.http_api import NewKey, assert_problem, insert_foreign_executions, wrong_fields
from tests.fixtures.model_server import ModelServer, completion, fault
from tests.fixtures.services import PROJECT, Service

EXECUTIONS = "/api/v1/executions"


async def found(service: Service, project: str, **filters: Any) -> list[str]:  # noqa: ANN401 - any filter
    """The ids of a project's executions that match, in the order of the answer."""
    answer = await service.http.get(EXECUTIONS, params={"project": project, **filters})
    assert answer.status_code == 200, answer.text
    return [item["executionId"] for item in answer.json()["items"]]


async def test_a_finished_execution_shows_its_prompt_output_and_cost(shared_service: Service, project: str) -> None:
    run = await shared_service.run_agent("plot-specialist-001", project=project, prompt="Outline.")

    again = await shared_service.http.get(run["links"]["self"])

    assert again.json() == run
    assert (run["status"], run["stopReason"], run["error"]) == ("completed", "completed", None)
    assert run["output"] == {"text": "The work is done.", "data": None}
    assert (run["qualityScore"], run["prompt"], run["project"]) == (90.0, "Outline.", project)
    assert run["tokenUsage"] == {"input": 20, "output": 10, "total": 30, "cacheRead": 0, "cacheWrite": 0}
    assert run["costUsd"] is None
    assert [message["role"] for message in run["runState"]["messages"]] == ["system", "user", "assistant"]
    assert run["executionTime"] >= 0
    assert run["startedAt"] <= run["completedAt"]
    assert "events" not in run


async def test_the_last_number_of_another_program_s_execution_is_its_last_row_s(shared_service: Service) -> None:
    rows = [{"event": {"type": "agent-start"}}, {"event": {"type": "agent-complete"}}]
    (execution_id,) = await insert_foreign_executions(shared_service, 1, events=rows)

    answer = await shared_service.http.get(f"{EXECUTIONS}/{execution_id}")

    assert answer.json()["lastSeq"] == 2


async def test_a_failed_execution_shows_a_code_and_a_readable_message(
    shared_service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", fault(500, "Traceback: sk-secret"))

    run = await shared_service.run_agent("plot-specialist-001")

    assert (run["status"], run["stopReason"], run["output"]) == ("failed", "error", None)
    assert set(run["error"]) == {"code", "message", "providerMessage"}
    assert run["error"]["code"] == "model-unavailable"
    assert "sk-secret" not in str(run)


@pytest.mark.parametrize("path", ["", "/tree", "/events", "/events/stream"])
async def test_an_unknown_execution_is_not_found_and_neither_is_one_of_another_project(
    shared_service: Service, new_key: NewKey, project: str, path: str
) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1, project=ObjectId())
    headers = await new_key("admin", project)

    unknown = await shared_service.http.get(f"{EXECUTIONS}/exec_unknown{path}")
    hidden = await shared_service.http.get(f"{EXECUTIONS}/{execution_id}{path}", headers=headers)

    assert_problem(unknown, 404, "execution-not-found")
    assert_problem(hidden, 404, "execution-not-found")
    assert hidden.json()["detail"].replace(execution_id, "ID") == unknown.json()["detail"].replace("exec_unknown", "ID")


async def test_filters_narrow_the_list(shared_service: Service, project: str, model_server: ModelServer) -> None:
    first = await shared_service.run_agent("plot-specialist-001", project=project, judge=False, conversationId="c-1")
    second = await shared_service.run_department("audio", project=project)
    model_server.on("work", fault(500))
    third = await shared_service.run_agent("theme-specialist-001", project=project, judge=False)
    one, two, three = (run["executionId"] for run in (first, second, third))

    assert await found(shared_service, project, agent="plot-specialist-001") == [one]
    assert await found(shared_service, project, agent="unknown-001") == []
    assert set(await found(shared_service, project, department="story")) == {one, three}
    assert await found(shared_service, project, department="nowhere") == []
    assert await found(shared_service, project, status="failed") == [three]
    assert await found(shared_service, project, kind="department") == [two]
    assert await found(shared_service, project, conversationId="c-1") == [one]
    assert two in await found(shared_service, project, rootExecutionId=two)
    assert len(await found(shared_service, project, rootExecutionId=two)) == 4
    assert set(await found(shared_service, project, reviewStatus="approved")) < set(
        await found(shared_service, project, rootExecutionId=two)
    )
    assert await found(shared_service, project, status="failed", department="audio") == []
    assert await found(shared_service, str(ObjectId())) == []


async def test_times_bound_the_list_from_inclusive_to_exclusive(shared_service: Service, project: str) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    ids = [
        (
            await insert_foreign_executions(
                shared_service, 1, project=ObjectId(project), startedAt=noon + timedelta(hours=n)
            )
        )[0]
        for n in range(4)
    ]
    one, three = iso_milliseconds(noon + timedelta(hours=1)), iso_milliseconds(noon + timedelta(hours=3))

    assert await found(shared_service, project) == ids[::-1]
    assert await found(shared_service, project, sort="startedAt") == ids
    assert await found(shared_service, project, **{"from": one, "to": three}, sort="startedAt") == ids[1:3]
    assert await found(shared_service, project, **{"from": "2026-03-01T15:00:00+01:00"}, sort="startedAt") == ids[2:]
    assert await found(shared_service, project, **{"to": "2026-03-01T13:00:00"}, sort="startedAt") == ids[:1]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"project": "66f0"}, "project"),
        ({"status": "done"}, "status"),
        ({"reviewStatus": "good"}, "reviewStatus"),
        ({"kind": "team"}, "kind"),
        ({"agent": "x" * 201}, "agent"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"from": "9999-12-31T23:59:59-12:00"}, "from"),
        ({"to": "0001-01-01T00:00:00+12:00"}, "to"),
        ({"sort": "-prompt"}, "sort"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
    ],
    ids=str,
)
async def test_a_filter_that_cannot_be_is_422(shared_service: Service, params: dict[str, str], field: str) -> None:
    answer = await shared_service.http.get(EXECUTIONS, params=params)

    assert wrong_fields(answer) == [field]


async def test_pages_stay_stable_while_runs_are_added(shared_service: Service, project: str) -> None:
    started = datetime(2026, 3, 1, tzinfo=UTC)
    same_moment = await insert_foreign_executions(shared_service, 5, project=ObjectId(project), startedAt=started)
    unset = await insert_foreign_executions(shared_service, 2, project=ObjectId(project))
    seen: list[str] = []
    params = {"project": project, "limit": "2"}

    while True:
        page = (await shared_service.http.get(EXECUTIONS, params=params)).json()
        seen += [item["executionId"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        await insert_foreign_executions(shared_service, 1, project=ObjectId(project), startedAt=datetime.now(UTC))
        params["cursor"] = page["nextCursor"]

    assert seen == [*same_moment[::-1], *unset[::-1]]


async def test_a_key_limited_to_projects_lists_only_their_executions(
    shared_service: Service, new_key: NewKey, project: str
) -> None:
    own = await insert_foreign_executions(shared_service, 2, project=ObjectId(project))
    other = str(ObjectId())
    await insert_foreign_executions(shared_service, 1, project=ObjectId(other))
    headers = await new_key("viewer", project)

    whole = (await shared_service.http.get(EXECUTIONS, headers=headers)).json()
    asked = (await shared_service.http.get(EXECUTIONS, params={"project": other}, headers=headers)).json()
    pending = (await shared_service.http.get(EXECUTIONS, params={"status": "pending"}, headers=headers)).json()

    assert ({item["executionId"] for item in whole["items"]}, whole["total"]) == (set(own), 2)
    assert (asked["items"], asked["total"]) == ([], 0)
    assert pending["total"] == 2


async def test_the_tree_shows_every_execution_of_a_department_run(shared_service: Service) -> None:
    run = await shared_service.run_department("story")

    tree = (await shared_service.http.get(f"{EXECUTIONS}/{run['executionId']}/tree")).json()

    assert (tree["executionId"], tree["kind"], tree["agent"]) == (run["executionId"], "department", "story-head-001")
    assert len(tree["children"]) == 4
    for child in tree["children"]:
        assert (child["kind"], child["status"], child["department"]) == ("agent", "completed", "story")
        assert child["qualityScore"] == 90
        assert child["tokenUsage"]["total"] > 0
        assert child["children"] == []
    listed = {line["executionId"] for line in run["output"]["report"]["specialists"]}
    assert {child["executionId"] for child in tree["children"]} == listed


async def test_events_are_read_in_pages_without_a_gap(shared_service: Service) -> None:
    run = await shared_service.run_department("story")
    path = f"{EXECUTIONS}/{run['executionId']}/events"
    whole = await shared_service.events(run["executionId"])
    pieces: list[dict[str, Any]] = []

    while True:
        after = pieces[-1]["seq"] if pieces else 0
        page = (await shared_service.http.get(path, params={"after": after, "limit": 7})).json()
        assert page["lastSeq"] == run["lastSeq"]
        assert len(page["items"]) <= 7
        if not page["items"]:
            break
        pieces += page["items"]

    assert pieces == whole
    assert [event["seq"] for event in pieces] == list(range(1, run["lastSeq"] + 1))


async def test_a_childs_events_are_its_own(shared_service: Service) -> None:
    run = await shared_service.run_department("story")
    child = run["output"]["report"]["specialists"][0]["executionId"]

    events = await shared_service.events(child)

    assert {event["executionId"] for event in events} == {child}
    assert (events[0]["type"], events[-1]["type"]) == ("agent-start", "agent-complete")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"after": "abc"}, "after"),
        ({"after": "-1"}, "after"),
        ({"after": "1e18"}, "after"),
        ({"after": str(10**18)}, "after"),
        ({"after": str(10**400)}, "after"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_events_from_where_nothing_can_be_are_422(
    shared_service: Service, params: dict[str, str], field: str
) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1)

    answer = await shared_service.http.get(f"{EXECUTIONS}/{execution_id}/events", params=params)

    assert wrong_fields(answer) == [field]


async def test_there_are_no_events_after_the_last(shared_service: Service) -> None:
    run = await shared_service.run_agent("plot-specialist-001", judge=False)

    page = (await shared_service.http.get(run["links"]["events"], params={"after": 2**53})).json()

    assert (page["items"], page["lastSeq"], page["status"]) == ([], 3, "completed")


async def test_one_event_is_read_whole_where_the_list_shows_it_cut(
    shared_service: Service, model_server: ModelServer
) -> None:
    text = "word " * 20_000
    model_server.on("work", completion(text))
    run = await shared_service.run_agent("plot-specialist-001", judge=False)
    base = f"/api/v1/executions/{run['executionId']}/events"

    _, response, complete = await shared_service.events(run["executionId"])
    answer = await shared_service.http.get(f"{base}/2")
    first = await shared_service.http.get(f"{base}/1")

    assert (response["truncated"], text.startswith(response["content"])) == (True, True)
    assert complete["output"]["text"] == response["content"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["content"] == text
    assert (len(answer.content), sha256(answer.content).hexdigest()) == (response["size"], response["sha256"])
    assert first.json()["type"] == "agent-start"


@pytest.mark.parametrize(("seq", "status"), [("4", 404), ("0", 422), ("-1", 422), ("abc", 422), (str(2**60), 422)])
async def test_an_event_that_is_not_there_is_not_found(shared_service: Service, seq: str, status: int) -> None:
    run = await shared_service.run_agent("plot-specialist-001", judge=False)

    answer = await shared_service.http.get(f"/api/v1/executions/{run['executionId']}/events/{seq}")

    assert_problem(answer, status, "event-not-found" if status == 404 else "validation-error")


@pytest.mark.parametrize("events", ["text", 7, {"event": {"type": "x"}}, True], ids=repr)
async def test_events_of_another_program_that_are_not_a_list_are_shown_as_empty(
    shared_service: Service, events: object
) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1, events=events, status="completed")
    path = f"/api/v1/executions/{execution_id}"

    listed = await shared_service.http.get(f"{path}/events")
    whole = await shared_service.http.get(f"{path}/events/1")
    stream = await shared_service.http.get(f"{path}/events/stream")

    assert (listed.status_code, listed.json()) == (200, {"items": [], "lastSeq": 0, "status": "completed"})
    assert (await shared_service.http.get(path)).json()["lastSeq"] == 0
    assert_problem(whole, 404, "event-not-found")
    assert stream.status_code == 204


@pytest.mark.parametrize("fields", [{"project": "text"}, {"startedAt": "soon"}, {"agent": 7}], ids=str)
async def test_an_execution_of_another_program_that_cannot_be_read_is_not_found_in_any_way(
    shared_service: Service, fields: dict[str, Any]
) -> None:
    (execution_id,) = await insert_foreign_executions(shared_service, 1, **fields)

    for path in ("", "/tree", "/events", "/events/1", "/events/stream"):
        answer = await shared_service.http.get(f"/api/v1/executions/{execution_id}{path}")
        assert_problem(answer, 404, "execution-not-found")


async def test_large_fields_are_left_out_where_the_client_wants_so(shared_service: Service) -> None:
    body = {"prompt": "Write.", "project": PROJECT, "params": {"a": 1}, "judge": False}
    path = "/api/v1/agents/plot-specialist-001/runs"

    waited = await shared_service.http.post(
        path, json=body, params={"omit": "runState,params"}, headers={"Prefer": "wait=30"}
    )
    own = waited.json()["links"]["self"]
    full = await shared_service.http.get(own)
    small = await shared_service.http.get(own, params={"omit": "runState,params,output"})
    unknown = await shared_service.http.get(own, params={"omit": "prompt"})

    assert waited.status_code == 200, waited.text
    assert waited.json() == full.json() | {"runState": None, "params": None}
    assert small.json() == full.json() | {"runState": None, "params": None, "output": None}
    assert (full.json()["params"], full.json()["runState"] is None) == ({"a": 1}, False)
    assert unknown.status_code == 422

"""Agents over HTTP: reading them, finding them, running one."""

import httpx
import pytest
from bson import ObjectId

from tests.fixtures.http_api import NewKey, assert_problem, wrong_fields
from tests.fixtures.model_server import ModelServer
from tests.fixtures.services import PROJECT, Service

AGENTS = "/api/v1/agents"
RUNS = f"{AGENTS}/plot-specialist-001/runs"
BODY = {"prompt": "Outline.", "project": PROJECT}


async def ids_of(http: httpx.AsyncClient, **params: str) -> set[str]:
    """The ids of the agents that match; the page holds them all."""
    answer = await http.get(AGENTS, params={"limit": "200", **params})
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["total"] == len(page["items"])
    return {item["agentId"] for item in page["items"]}


async def test_all_agents_are_listed_by_their_ids_for_everybody(anonymous: httpx.AsyncClient) -> None:
    page = (await anonymous.get(AGENTS)).json()

    ids = [item["agentId"] for item in page["items"]]
    assert (len(ids), page["total"], page["nextCursor"]) == (28, 28, None)
    assert ids == sorted(ids)


async def test_an_agent_is_shown_with_natural_keys_and_plain_lists(anonymous: httpx.AsyncClient) -> None:
    agent = (await anonymous.get(f"{AGENTS}/plot-specialist-001")).json()

    assert (agent["agentId"], agent["department"], agent["isDepartmentHead"]) == ("plot-specialist-001", "story", False)
    assert agent["toolNames"]
    assert agent["skills"]
    assert all(isinstance(name, str) for name in (*agent["toolNames"], *agent["skills"]))
    assert ObjectId.is_valid(agent["id"])
    assert not {"_id", "__v", "tool_names"} & set(agent)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"department": "story"}, 5),
        ({"department": "nowhere"}, 0),
        ({"department": ""}, 0),
        ({"isDepartmentHead": "true"}, 6),
        ({"isDepartmentHead": "false"}, 22),
        ({"isActive": "true"}, 28),
        ({"isActive": "false"}, 0),
        ({"department": "story", "isDepartmentHead": "true"}, 1),
        ({"q": "PLOT-SPECIALIST"}, 1),
        ({"q": ""}, 28),
        ({"q": "no agent says this"}, 0),
        ({"q": ".*"}, 0),
        ({"q": "("}, 0),
        ({"q": "[a-z]+"}, 0),
        ({"department": "audio", "q": "head"}, 1),
    ],
    ids=str,
)
async def test_filters_narrow_the_list(anonymous: httpx.AsyncClient, filters: dict[str, str], count: int) -> None:
    found = await ids_of(anonymous, **filters)

    if filters == {"department": "audio", "q": "head"}:
        assert "audio-head-001" in found
    else:
        assert len(found) == count


@pytest.mark.parametrize(
    ("params", "field"),
    [({"isActive": "perhaps"}, "isActive"), ({"q": "x" * 201}, "q"), ({"sort": "instructionsPrompt"}, "sort")],
)
async def test_a_filter_that_cannot_be_is_422(anonymous: httpx.AsyncClient, params: dict[str, str], field: str) -> None:
    answer = await anonymous.get(AGENTS, params=params)

    assert wrong_fields(answer) == [field]


async def test_a_search_with_a_nul_in_it_finds_nothing_or_is_refused(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get(AGENTS, params={"q": "head\0"})

    if answer.status_code == 200:
        assert answer.json()["items"] == []
    else:
        assert wrong_fields(answer) == ["q"]


async def test_an_unknown_agent_cannot_be_read_or_run(shared_service: Service) -> None:
    read = await shared_service.http.get(f"{AGENTS}/unknown-001")
    run = await shared_service.http.post(f"{AGENTS}/unknown-001/runs", json=BODY)

    assert_problem(read, 404, "agent-not-found")
    assert_problem(run, 404, "agent-not-found")


async def test_a_run_is_accepted_stored_and_then_carried_out(shared_service: Service, new_key: NewKey) -> None:
    episode = ObjectId()
    body = {**BODY, "episode": str(episode), "conversationId": "c-1", "params": {"tone": "dry"}}

    answer = await shared_service.http.post(RUNS, json=body, headers=await new_key("runner"))

    accepted = answer.json()
    assert answer.status_code == 202
    stored = await shared_service.services.database["agent-executions"].find_one(
        {"executionId": accepted["executionId"]}
    )
    assert stored is not None
    assert (stored["project"], stored["episode"]) == (ObjectId(PROJECT), episode)
    assert (accepted["kind"], accepted["status"], accepted["department"]) == ("agent", "pending", "story")
    assert (accepted["conversationId"], accepted["params"]) == ("c-1", {"tone": "dry"})


@pytest.mark.parametrize(
    ("chosen", "model"),
    [
        ({}, "anthropic/claude-sonnet-4.5"),
        ({"model": "openai/gpt-4"}, "openai/gpt-4"),
        ({"complexity": "simple"}, "anthropic/claude-3-haiku"),
        ({"complexity": "complex"}, "anthropic/claude-3-opus"),
        ({"complexity": "simple", "model": "openai/gpt-4-turbo"}, "openai/gpt-4-turbo"),
    ],
    ids=str,
)
async def test_the_model_is_the_one_asked_for_else_by_complexity_else_the_agents_own(
    shared_service: Service, chosen: dict[str, str], model: str
) -> None:
    run = await shared_service.run_agent("plot-specialist-001", judge=False, **chosen)

    start, response, _ = await shared_service.events(run["executionId"])
    assert (start["model"], response["model"]) == (model, model)


async def test_a_viewer_and_a_caller_without_a_key_cannot_run(
    shared_service: Service, anonymous: httpx.AsyncClient, new_key: NewKey
) -> None:
    viewer = await shared_service.http.post(RUNS, json=BODY, headers=await new_key("viewer"))
    anonymous_answer = await anonymous.post(RUNS, json=BODY)

    assert_problem(viewer, 403, "not-allowed")
    assert_problem(anonymous_answer, 401, "not-authenticated")


async def test_a_key_made_for_a_project_runs_in_it_alone_in_whatever_case_its_id_is_written(
    shared_service: Service, new_key: NewKey, project: str
) -> None:
    headers = await new_key("runner", project.upper())

    own = await shared_service.http.post(RUNS, json=BODY | {"project": project}, headers=headers)
    shouted = await shared_service.http.post(RUNS, json=BODY | {"project": project.upper()}, headers=headers)
    foreign = await shared_service.http.post(RUNS, json=BODY, headers=headers)

    assert (own.status_code, shouted.status_code) == (202, 202)
    assert_problem(foreign, 404, "project-not-found")


async def test_params_reach_the_model_as_data(shared_service: Service, model_server: ModelServer) -> None:
    run = await shared_service.run_agent("plot-specialist-001", judge=False, params={"api_base": "http://evil.example"})

    (call,) = [call for call in model_server.calls if call.execution_id == run["executionId"]]
    assert "http://evil.example" in call.text
    assert call.headers["host"] in model_server.url


async def test_a_model_without_an_entry_is_refused_before_anything_is_stored(
    shared_service: Service, project: str
) -> None:
    answer = await shared_service.http.post(RUNS, json=BODY | {"project": project, "model": "anthropic/unheard-of"})
    listed = await shared_service.http.get("/api/v1/executions", params={"project": project})

    assert wrong_fields(answer) == ["model"]
    assert listed.json()["total"] == 0

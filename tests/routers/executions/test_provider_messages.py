"""A provider's own words about a call that it refused: for admins alone, wherever an execution is shown."""

import json

from tests.fixtures.http_api import NewKey, open_socket
from tests.fixtures.model_server import ModelServer, fault
from tests.fixtures.services import Service

WORDS = "Invalid schema for function 'wordCount'"
AGENT = "plot-specialist-001"


async def test_only_admins_see_the_providers_message(
    shared_service: Service, model_server: ModelServer, new_key: NewKey
) -> None:
    model_server.on("work", fault(400, f"{WORDS}: key sk-secret1234567 may not."))
    run = await shared_service.run_agent(AGENT, judge=False)
    execution_id = run["executionId"]
    path = f"/api/v1/executions/{execution_id}"

    for role, sees in (("viewer", False), ("runner", False), ("admin", True)):
        headers = await new_key(role)
        one = (await shared_service.http.get(path, headers=headers)).json()
        listed = await shared_service.http.get("/api/v1/executions", params={"limit": 200}, headers=headers)
        row = next(item for item in listed.json()["items"] if item["executionId"] == execution_id)
        for error in (one["error"], row["error"]):
            assert error["code"] == "model-schema-refused"
            assert (error.get("providerMessage") or "").startswith(WORDS) is sees
        assert (WORDS in str(one), WORDS in str(row)) == (sees, sees)
        for other in (f"{path}/events", f"{path}/events/stream", f"{path}/tree"):
            assert WORDS not in (await shared_service.http.get(other, headers=headers)).text
    assert run["error"]["providerMessage"].startswith(WORDS)
    assert "sk-secret" not in str(run)


async def test_a_runner_that_waits_for_its_run_cannot_read_it_either(
    shared_service: Service, model_server: ModelServer, new_key: NewKey
) -> None:
    model_server.on("*", fault(400, WORDS))
    headers = await new_key("runner") | {"Prefer": "wait=30"}
    body = {"prompt": "Write.", "project": "66f0a1b2c3d4e5f601234567"}

    for path in (f"/api/v1/agents/{AGENT}/runs", "/api/v1/departments/story/runs"):
        answer = await shared_service.http.post(path, json=body, headers=headers)

        assert answer.json()["status"] == "failed"
        assert WORDS not in answer.text


async def test_a_socket_never_carries_it(shared_service: Service, model_server: ModelServer) -> None:
    model_server.on("work", fault(400, WORDS))
    run = await shared_service.run_agent(AGENT, judge=False)

    async with open_socket(shared_service) as socket:
        await socket.send(type="subscribe", executionId=run["executionId"])
        messages = await socket.until_end()

    assert messages[-2]["type"] == "agent-error"
    assert WORDS not in json.dumps(messages)

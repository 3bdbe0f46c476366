"""The shown prompts of an execution are those that the model server received."""

import hashlib

import httpx

from app.errors import FieldError
from app.services.prompts.agents import Brief, assignment_prompt, last_step_prompt, revision_prompt, task_prompt
from app.services.prompts.context import context_text
from app.services.prompts.fences import FENCE_RULE, fenced, same_as
from app.services.prompts.formats import FORMAT_SYSTEM_PROMPT, format_prompt, format_repair, schema_instruction
from app.services.prompts.heads import SpecialistWork, report_prompt
from app.services.prompts.judge import (
    BATCH_SYSTEM_PROMPT,
    JUDGE_SYSTEM_PROMPT,
    JUDGE_VERSION,
    JudgeMaterial,
    batch_prompt,
    judge_prompt,
)
from app.services.prompts.orchestrations import DepartmentWork, orchestrated_prompt, orchestration_prompt
from app.services.prompts.versions import PROMPTS_VERSION
from app.services.runs.work.model_calls import with_fence
from tests.fixtures.model_server import Call, Json, ModelServer, completion, one_does_all, plan_of, review
from tests.fixtures.runs import ADA, DEPARTMENT, HEAD, first_then, of_type, stored_tree
from tests.fixtures.services import Service


async def shown(service: Service, execution_id: str) -> Json:
    """The prompts of an execution."""
    answer = await service.http.get(f"/api/v1/executions/{execution_id}/prompts")
    assert answer.status_code == 200, answer.text
    return answer.json()


def spoken(messages: list[Json]) -> list[tuple[str, str | None, int]]:
    """Messages by role, text, and how many tools they call."""
    return [(message["role"], message.get("content"), len(message.get("tool_calls") or ())) for message in messages]


def received(server: ModelServer, execution_id: str) -> dict[str, list[Call]]:
    """The calls that the server got for an execution, by purpose."""
    found: dict[str, list[Call]] = {}
    for call in server.calls:
        if call.execution_id == execution_id:
            found.setdefault(call.purpose, []).append(call)
    return found


async def test_the_shown_prompts_are_those_that_the_models_received(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", plan_of((ADA, "Write it.", [])))
    model_server.on("work", first_then(completion("I count.", ("echo", {"a": 1})), "First draft.", "Second draft."))
    model_server.on("review", first_then(review("revision-needed", "More."), review("approved", "Good.")))
    model_server.on("report", first_then(completion(None, ("echo", {"b": 2})), "## Summary\nDone."))

    done = await service.run_department(DEPARTMENT, params={"tone": "dry"})

    documents = await stored_tree(service, done["executionId"])
    for agent, purposes in ((HEAD, {"plan", "report", "judge"}), (ADA, {"work", "judge", "review"})):
        execution_id = documents[agent]["executionId"]
        prompts = await shown(service, execution_id)
        sent = received(model_server, execution_id)
        assert {call["purpose"] for call in prompts["calls"]} == purposes == set(sent)
        assert (prompts["promptsVersion"], prompts["currentVersion"]) == (PROMPTS_VERSION, PROMPTS_VERSION)
        for call in prompts["calls"]:
            assert call["calls"] == len(call["seqs"]) == len(sent[call["purpose"]]), (agent, call["purpose"])
            assert spoken(call["messages"]) == spoken(sent[call["purpose"]][-1].messages), (agent, call["purpose"])
            assert call["source"] == "stored"
            judge, own = "anthropic/claude-3-haiku", "anthropic/claude-sonnet-4.5"
            assert call["model"] == (judge if call["purpose"] == "judge" else own)


async def test_an_agent_run_and_an_orchestration_show_theirs_too(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", one_does_all)
    alone = await service.run_agent(ADA)
    together = await service.run_orchestration("story", DEPARTMENT)

    for execution_id, purposes in (
        (alone["executionId"], {"work", "judge"}),
        (together["executionId"], {"orchestrate", "judge"}),
    ):
        prompts = await shown(service, execution_id)
        sent = received(model_server, execution_id)
        assert {call["purpose"] for call in prompts["calls"]} == purposes
        for call in prompts["calls"]:
            assert spoken(call["messages"]) == spoken(sent[call["purpose"]][-1].messages)


async def test_another_program_s_execution_has_no_prompts_and_only_admins_see_any(service: Service) -> None:
    await service.services.database["agent-executions"].insert_one(
        {
            "executionId": "exec_foreign_prompts",
            "status": "completed",
            "prompt": "Theirs.",
            "runState": {"messages": [1]},
        }
    )
    made = await service.http.post("/api/v1/api-keys", json={"name": "runs", "role": "runner"})

    assert (await shown(service, "exec_foreign_prompts"))["calls"] == []
    assert (await service.http.get("/api/v1/executions/exec_none/prompts")).status_code == 404
    async with httpx.AsyncClient(base_url=service.url, headers={"X-API-Key": made.json()["key"]}) as runner:
        assert (await runner.get("/api/v1/executions/exec_foreign_prompts/prompts")).status_code == 403


async def test_the_start_of_a_run_names_the_version_of_its_prompts(service: Service) -> None:
    done = await service.run_agent(ADA)

    start = of_type(await service.events(done["executionId"]), "agent-start")[0]
    assert start["promptsVersion"] == PROMPTS_VERSION


def test_the_templates_are_those_of_their_versions() -> None:
    """A change of a template increments its version and records its new digest here."""
    work = SpecialistWork("ada-001", "Ada", "completed", "approved", 90.0, "Work.")
    department = DepartmentWork("story", "Story", 90.0, "Gist.", "Report.")
    prompts = "\n".join(
        (
            FENCE_RULE,
            task_prompt("Ask.", {"a": 1}),
            context_text({"name": "Light"}, {"title": "Dawn"}),
            schema_instruction({"type": "object"}),
            FORMAT_SYSTEM_PROMPT,
            format_prompt("Text.", schema={"type": "array"}, truncated=True),
            format_repair((FieldError("a", "is missing"),)),
            str(with_fence({"role": "tool", "name": "echo", "content": "{}"})),
            same_as(fenced("RESULT OF echo", "{}")),
            assignment_prompt("Ask.", "Do.", {"bob-001": "Done."}),
            revision_prompt("More."),
            revision_prompt("More.", by_person=True),
            last_step_prompt(),
            report_prompt("Ask.", [work]),
            report_prompt("Ask.", []),
            orchestrated_prompt("Ask.", [department]),
            orchestration_prompt("Ask.", [department]),
        )
    )
    brief = Brief("Ask.", "Do.")
    material = JudgeMaterial("Context.", "user: Ask.", (("WORK OF ada-001", "Work."),), ("Coherent.",), ("Dry.",))
    judged = (
        judge_prompt("story", brief, "Work.", material=material),
        batch_prompt("story", [("ada-001", brief, "Work.")], material=material, criteria={"ada-001": ("Dry.",)}),
    )
    judging = "\n".join((JUDGE_SYSTEM_PROMPT, BATCH_SYSTEM_PROMPT, *judged))

    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (prompts, judging)]

    assert (PROMPTS_VERSION, digests[0]) == ("4", "7b4b3bdfa1626f7e")
    assert (JUDGE_VERSION, digests[1]) == ("6", "db25c789c172d416")

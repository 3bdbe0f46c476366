"""Prompts of one department begin in the same way as far as they can, for providers' prompt caches."""

from app.services.prompts.agents import Brief
from app.services.prompts.fences import fenced
from app.services.prompts.heads import plan_context
from app.services.prompts.judge import JudgeMaterial, judge_opening, judge_prompt
from tests.fixtures.model_server import ModelServer, plan_of
from tests.fixtures.runs import ADA, DEPARTMENT
from tests.fixtures.services import Service

CONTEXT = JudgeMaterial(context="The project.", department_criteria=("Coherent.",))
ADAS = JudgeMaterial(context="The project.", department_criteria=("Coherent.",), agent_criteria=("Dry.",))


def test_judgments_of_a_run_share_everything_up_to_the_agents_own_criteria() -> None:
    opening = judge_opening("story", Brief("Ask."), CONTEXT)
    prompts = [
        judge_prompt("story", Brief("Ask.", "Write."), "Work.", material=ADAS),
        judge_prompt("story", Brief("Ask.", "Count."), "Other work.", material=CONTEXT),
        judge_prompt("story", Brief("Ask."), "Report.", material=CONTEXT),
    ]

    assert all(prompt.startswith(f"{opening}\n\n") for prompt in prompts)
    assert opening.endswith(fenced("REQUEST", "Ask."))
    assert prompts[0].index("The agent's criteria:") > len(opening)
    assert "The agent's criteria:" not in prompts[1]


async def test_the_plans_of_a_department_share_all_but_the_request(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", plan_of((ADA, "Write it.", [])))

    await service.run_department(DEPARTMENT, prompt="A film about salt.")
    await service.run_department(DEPARTMENT, prompt="A play about rain.")

    plans = [str(call.messages[-1]["content"]) for call in model_server.calls_for("plan")]
    team = await service.services.engine.loader.get_team(DEPARTMENT)
    opening = plan_context(team.specialists)
    assert "Your specialists:\n- " in opening
    assert [plan.removeprefix(opening) for plan in plans] == [
        f"\n\nThe request:\n{fenced('REQUEST', request)}" for request in ("A film about salt.", "A play about rain.")
    ]

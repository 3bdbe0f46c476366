"""A department run: the head plans, specialists work, their work is judged and reviewed, the head reports."""

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from app.errors import AppError
from app.events.types import AgentThinking, DepartmentComplete, DepartmentStart
from app.kit.concurrency import plain_errors
from app.kit.json_values import JsonObject
from app.services.catalog.definitions import AgentDefinition, Team
from app.services.catalog.loader import AgentNotFound
from app.services.llm.calls import RunPurpose
from app.services.llm.messages.structured_output import AnswerSchema, ask_structured
from app.services.prompts.agents import assignment_prompt, task_prompt
from app.services.prompts.fences import user_message
from app.services.prompts.heads import WORK, plan_context, plan_prompt, plan_schema, report_prompt
from app.services.quality.batch_judge import BatchJudge
from app.services.quality.gates import GateName
from app.services.runs.outputs.answer_data import OutputSchema
from app.services.runs.outputs.formatting import compile_schema_of, output_of
from app.services.runs.spending.kept_outputs import joined_outputs, raise_if_exhausted
from app.services.runs.work.agent_loop import stop_reason_of, work
from app.services.runs.work.agent_run import judge
from app.services.runs.work.conversations import plan_turn
from app.services.runs.work.execution_run import ExecutionRun
from app.services.runs.work.plan import Assignment, Plan, plan_for_all, usable_plan
from app.services.runs.work.report import department_report, outputs_of, work_of
from app.services.runs.work.run_tree import RunTree
from app.services.runs.work.specialist_run import run_specialist


class AllSpecialistsFailed(AppError):
    """Every specialist of the department failed, so there is nothing to report."""

    code = "all-specialists-failed"

    def __init__(self, slug: str, causes: list[str]) -> None:
        super().__init__(f"All specialists of the department {slug!r} failed: {'; '.join(causes)}")


@dataclass
class DepartmentRun:
    """Runs a department: the head's execution, its team, and the tree that receives the specialists' executions."""

    head: ExecutionRun
    team: Team
    tree: RunTree
    batch_judge: BatchJudge = field(init=False)

    def __post_init__(self) -> None:
        context = self.head.context
        self.batch_judge = BatchJudge(context.models, context.context_tokens)

    async def run(self) -> None:
        """Continue from the state of the tree to the department's report.

        Raises:
            AllSpecialistsFailed: every specialist failed.
            BudgetExhausted: a budget stopped a specialist, or the head itself.
            ModelCallFailed: the head itself could not plan or report.
            OutputInvalid, OutputSchemaInvalid: the report cannot be turned into the data that a schema requires.
            TreeLost: this process no longer owns the tree.
        """
        slug = self.team.department.slug
        self.head.kept_output = self._kept_output
        self.head.begin(DepartmentStart(agent_id=self.head.agent.agent_id, department_slug=slug))
        schema = await compile_schema_of(self.head)
        specialists: list[ExecutionRun] = []
        if self.team.specialists or self.head.state.plan is not None:
            plan = await self._plan()
            specialists = await self._run_specialists(plan)
            self._refuse_if_all_failed(specialists)
        await self._report(specialists, schema)

    @property
    def request(self) -> str:
        """The client's request with its parameters."""
        return task_prompt(self.head.execution.prompt, self.head.execution.params)

    async def _plan(self) -> Plan:
        """Return the head's plan, or one with all specialists at once if it cannot be used."""
        head = self.head
        if head.state.plan is not None:
            return Plan.from_json(head.state.plan)
        specialists = self.team.specialists
        head.open_with(plan_prompt(self.request, specialists))
        call = replace(head.request(head.opening, RunPurpose.PLAN, []), shared=plan_context(specialists))
        answer = await ask_structured(head.context.models, call, AnswerSchema("plan", plan_schema(specialists)))
        plan = usable_plan(answer.value if answer.valid else None, specialists)
        if isinstance(plan, str):
            plan = plan_for_all(specialists, plan)
        head.append(
            AgentThinking(
                agent_id=head.agent.agent_id,
                message=plan.rationale,
                plan=plan.as_json(),
                **answer.as_fields(),
            )
        )
        return plan

    async def _run_specialists(self, plan: Plan) -> list[ExecutionRun]:
        """Run each specialist as soon as those it depends on have ended, successfully or not."""
        by_id = {agent.agent_id: agent for agent in (*self.team.inactive_specialists, *self.team.specialists)}
        for assignment in plan.assignments:
            if assignment.agent_id not in by_id:  # a recovered run uses the current definitions
                raise AgentNotFound(assignment.agent_id)
        tasks: dict[str, asyncio.Task[ExecutionRun]] = {}
        with self.tree.waits.paused(), plain_errors():
            async with asyncio.TaskGroup() as group:
                for assignment in plan.assignments:
                    agent = by_id[assignment.agent_id]
                    tasks[agent.agent_id] = group.create_task(self._run_specialist(assignment, agent, tasks))
        return [tasks[assignment.agent_id].result() for assignment in plan.assignments]

    async def _run_specialist(
        self, assignment: Assignment, agent: AgentDefinition, tasks: dict[str, asyncio.Task[ExecutionRun]]
    ) -> ExecutionRun:
        with self.tree.waits.working():
            with self.tree.waits.paused():
                before = [await tasks[name] for name in assignment.depends_on]
            outputs = {run.agent.agent_id: run.state.answer for run in before if run.state.answer}
            truncated = frozenset(run.agent.agent_id for run in before if run.state.truncated)
            limit = self.head.context.handed_on_characters
            prompt = assignment_prompt(self.request, assignment.instructions, outputs, truncated, handed_on=limit)
            specialist = await self.tree.start_child(self.head, agent, prompt)
            with structlog.contextvars.bound_contextvars(executionId=specialist.id, agentId=agent.agent_id):
                await self.tree.run_child(specialist, partial(run_specialist, specialist, self.head, self.batch_judge))
            return specialist

    def _kept_output(self) -> JsonObject | None:
        """Return what the department has produced when a budget stops it."""
        children = self.tree.children_of(self.head.execution)
        specialists = [run for child in children if (run := self.tree.runs.get(child.execution_id))]
        text = self.head.state.answer or joined_outputs(specialists)
        if not text:
            return None
        report = department_report(self.team.department.slug, text, specialists, self.head.state.check)
        return {"text": text, "data": None, "report": report}

    def _refuse_if_all_failed(self, specialists: list[ExecutionRun]) -> None:
        raise_if_exhausted(run.failure for run in specialists)
        if all(run.failure is not None for run in specialists):
            causes = [f"{run.agent.agent_id}: {(run.failure or {}).get('code')}" for run in specialists]
            raise AllSpecialistsFailed(self.team.department.slug, causes)

    async def _report(self, specialists: list[ExecutionRun], schema: OutputSchema | None) -> None:
        """Write the head's report, turn it into data if there is a schema, judge it, and end the run."""
        head = self.head
        head.open_with(report_prompt(self.request, [work_of(run) for run in specialists]))
        await work(head, RunPurpose.REPORT)
        output = await output_of(head, schema)
        await judge(head, GateName.DEPARTMENT, outputs_of(specialists, WORK))
        head.await_review()
        text = head.state.answer or ""
        report = department_report(self.team.department.slug, text, specialists, head.state.check)
        done = DepartmentComplete(
            agent_id=head.agent.agent_id, department_slug=self.team.department.slug, report=report
        )
        if head.state.plan is not None:
            *before, last = head.opening
            head.opening = [*before, user_message(self.request), plan_turn(head.state.plan), last]
        head.complete(output | {"report": report}, stop_reason_of(head), done)

"""An orchestration: several departments, in sequence and in parallel, and one result."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby

import structlog

from app.errors import AppError
from app.events.types import OrchestratorProgress
from app.kit.concurrency import all_of
from app.kit.json_values import JsonObject
from app.models.agent_execution import ExecutionKind
from app.services.catalog.definitions import Team
from app.services.catalog.loader import DefinitionLoader
from app.services.llm.calls import RunPurpose
from app.services.prompts.agents import task_prompt
from app.services.prompts.orchestrations import REPORT, orchestrated_prompt, orchestration_prompt
from app.services.quality.gates import GateName
from app.services.runs.outputs.answer_data import OutputSchema
from app.services.runs.outputs.formatting import compile_schema_of, output_of
from app.services.runs.spending.kept_outputs import joined_outputs, raise_if_exhausted
from app.services.runs.work.agent_loop import stop_reason_of, work
from app.services.runs.work.agent_run import judge
from app.services.runs.work.department_run import DepartmentRun
from app.services.runs.work.execution_run import ExecutionRun
from app.services.runs.work.report import DepartmentOutcome, orchestration_report
from app.services.runs.work.run_tree import RunTree

MAX_DEPARTMENTS_AT_ONCE = 4
"""The departments of one priority that run at the same time; each runs several specialists."""

log = structlog.get_logger(__name__)


class AllDepartmentsFailed(AppError):
    """Every department failed, so there is nothing to combine."""

    code = "all-departments-failed"

    def __init__(self, causes: list[str]) -> None:
        super().__init__(f"All departments of the orchestration failed: {'; '.join(causes)}")


class DepartmentLeft(AppError):
    """The department's head changed while the orchestration waited for recovery: its work was restarted or dropped."""

    code = "department-left"

    def __init__(self) -> None:
        super().__init__("The department can no longer run as it did when this execution began.")


@dataclass
class OrchestrationRun:
    """Runs an orchestration: the root's execution, the tree, and the loader of its departments' definitions."""

    root: ExecutionRun
    tree: RunTree
    loader: DefinitionLoader
    _at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_DEPARTMENTS_AT_ONCE))

    async def run(self) -> None:
        """Continue from the state of the tree to the result.

        Raises:
            AllDepartmentsFailed: every department failed.
            BudgetExhausted: a budget stopped a department, or the root itself.
            ModelCallFailed: the root's agent could not write the result.
            OutputInvalid, OutputSchemaInvalid: the result cannot be turned into the data that a schema requires.
            TreeLost: this process no longer owns the tree.
        """
        started = self._progress("started", f"Running {', '.join(self._slugs)}.")
        self.root.kept_output = self._kept_output
        self.root.begin(started)
        schema = await compile_schema_of(self.root)
        teams, ended = await self._read_teams()
        for _, wave in groupby(teams, key=lambda team: team.department.priority):
            ended += await self._run_wave(list(wave), ended)
            raise_if_exhausted(one.failure for one in ended)
        self._end_dropped(ended)
        if all(one.failure for one in ended):
            raise AllDepartmentsFailed([f"{one.slug}: {(one.failure or {}).get('code')}" for one in ended])
        await self._write_result(ended, schema)

    @property
    def _slugs(self) -> list[str]:
        return self.root.options.departments or []

    @property
    def _request(self) -> str:
        """The client's request with its parameters."""
        return task_prompt(self.root.execution.prompt, self.root.execution.params)

    async def _read_teams(self) -> tuple[list[Team], list[DepartmentOutcome]]:
        """Return the current teams in the order in which they run, and the departments that can no longer run."""
        teams: list[Team] = []
        missing: list[DepartmentOutcome] = []
        for slug in self._slugs:
            try:
                teams.append(await self.loader.get_team(slug, accepted=True))
            except AppError as error:
                missing.append(DepartmentOutcome(slug, slug, failure={"code": error.code, "message": error.message}))
                self._note("department-failed", error.message, slug)
        return sorted(teams, key=lambda team: (team.department.priority, team.department.slug)), missing

    async def _run_wave(self, teams: list[Team], before: list[DepartmentOutcome]) -> list[DepartmentOutcome]:
        """Run the departments of one priority at the same time, each with the earlier reports."""
        prompt = orchestrated_prompt(self._request, [one.as_work() for one in before])
        with self.tree.waits.paused():
            return await all_of(self._run_department(team, prompt) for team in teams)

    async def _run_department(self, team: Team, prompt: str) -> DepartmentOutcome:
        """Run one department to its end; if it fails, the orchestration continues."""
        slug, name = team.department.slug, team.department.name
        async with self._one_of_few():
            head = await self.tree.start_child(self.root, team.head, prompt, ExecutionKind.DEPARTMENT)
            self._note("department-started", f"{name} begins.", slug, head.id)
            with structlog.contextvars.bound_contextvars(executionId=head.id, agentId=head.agent.agent_id):
                await self.tree.run_child(head, DepartmentRun(head, team, self.tree).run)
        outcome = DepartmentOutcome.of(head)
        if outcome.failure:
            self._note("department-failed", f"{name} failed: {outcome.failure['message']}", slug, head.id)
        else:
            self._note("department-completed", f"{name} has reported.", slug, head.id)
        return outcome

    @asynccontextmanager
    async def _one_of_few(self) -> AsyncGenerator[None]:
        """Wait for a free slot among the departments' slots, and count as a task of the tree that can progress."""
        with self.tree.waits.working():
            with self.tree.waits.paused():
                await self._at_once.acquire()
            try:
                yield
            finally:
                self._at_once.release()

    def _kept_output(self) -> JsonObject | None:
        """Return what the departments have produced when a budget stops the orchestration."""
        children = self.tree.children_of(self.root.execution)
        heads = [run for child in children if (run := self.tree.runs.get(child.execution_id))]
        text = self.root.state.answer or joined_outputs(heads)
        if not text:
            return None
        report = orchestration_report(self.root, text, [DepartmentOutcome.of(head) for head in heads])
        return {"text": text, "data": None, "report": report}

    def _end_dropped(self, ended: list[DepartmentOutcome]) -> None:
        """End executions that an earlier process started and this one could not continue."""
        used = {one.execution_id for one in ended}
        for child in self.tree.children_of(self.root.execution):
            if child.execution_id not in used:
                self.tree.fail(DepartmentLeft(), child)

    async def _write_result(self, ended: list[DepartmentOutcome], schema: OutputSchema | None) -> None:
        """Write the result with the root's agent, turn it into data if there is a schema, judge it, and end the run."""
        root = self.root
        self._note("result", f"{root.agent.name} brings the reports together.")
        root.open_with(orchestration_prompt(self._request, [one.as_work() for one in ended]))
        await work(root, RunPurpose.ORCHESTRATE)
        output = await output_of(root, schema)
        sources = [(f"{REPORT} {one.slug}", text) for one in ended if (text := one.as_work().text)]
        await judge(root, GateName.ORCHESTRATOR, sources)
        root.await_review()
        text = root.state.answer or ""
        output["report"] = orchestration_report(root, text, ended)
        root.complete(output, stop_reason_of(root), self._progress("completed", "The orchestration is complete."))

    def _note(self, stage: str, message: str, slug: str | None = None, execution_id: str | None = None) -> None:
        """Report progress once, however often the run is taken over."""
        if (stage, slug) not in self.root.state.progress:
            self.root.append(self._progress(stage, message, slug, execution_id))

    def _progress(
        self, stage: str, message: str, slug: str | None = None, execution_id: str | None = None
    ) -> OrchestratorProgress:
        ended = {told for kind, told in self.root.state.progress if kind in ENDED}
        if stage in ENDED:
            ended.add(slug)
        return OrchestratorProgress(
            agent_id=self.root.agent.agent_id,
            stage=stage,
            message=message,
            done=len(ended),
            total=len(self._slugs),
            department_slug=slug,
            department_execution_id=execution_id,
        )


ENDED = ("department-completed", "department-failed")

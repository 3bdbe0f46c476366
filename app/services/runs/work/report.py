"""Reports: the head's text, and the outcome of each specialist, department and gate."""

from dataclasses import dataclass

from app.kit.json_values import JsonObject
from app.models.agent_execution import ExecutionStatus
from app.services.prompts.heads import SpecialistWork
from app.services.prompts.orchestrations import DepartmentWork
from app.services.quality.gates import meets_threshold
from app.services.runs.work.execution_run import ExecutionRun

MAX_SUMMARY_CHARACTERS = 1000


@dataclass(frozen=True)
class DepartmentOutcome:
    """The outcome of a department in an orchestration; without an execution it could not start."""

    slug: str
    name: str
    execution_id: str | None = None
    quality_score: float | None = None
    gate: JsonObject | None = None
    report: JsonObject | None = None
    failure: JsonObject | None = None
    truncated: bool = False

    @classmethod
    def of(cls, head: ExecutionRun) -> "DepartmentOutcome":
        """Return the outcome of a head's ended execution."""
        state, department = head.state, head.agent.department
        gate = state.check["gate"] if state.check else None
        return cls(
            department.slug,
            department.name,
            head.id,
            state.quality_score,
            gate,
            state.report,
            state.failure,
            state.truncated,
        )

    def as_work(self) -> DepartmentWork:
        """Return the outcome as input for departments that build on it."""
        report = self.report or {"summary": "", "text": ""}
        problem = self.failure["message"] if self.failure else None
        return DepartmentWork(
            self.slug, self.name, self.quality_score, report["summary"], report["text"], problem, self.truncated
        )

    def as_line(self) -> JsonObject:
        """Return the department's line in the orchestration's report."""
        line: JsonObject = {
            "department": self.slug,
            "executionId": self.execution_id,
            "status": (ExecutionStatus.FAILED if self.failure else ExecutionStatus.COMPLETED).value,
            "qualityScore": self.quality_score,
            "summary": (self.report or {}).get("summary", ""),
        }
        return line | cut_mark(self.truncated) | ({"error": self.failure} if self.failure else {})


def work_of(run: ExecutionRun) -> SpecialistWork:
    """Return a specialist's work as input of the head's report."""
    failure = run.failure
    return SpecialistWork(
        agent_id=run.agent.agent_id,
        name=run.agent.name,
        status=status_of(run).value,
        review_status=run.state.review_status.value,
        quality_score=run.state.quality_score,
        text=run.state.answer or "",
        problem=f"It failed: {failure['message']}" if failure else None,
        truncated=run.state.truncated,
    )


def outputs_of(runs: list[ExecutionRun], label: str) -> list[tuple[str, str]]:
    """Return the outputs that a report is made of, as its judge reads them: a label and a text each."""
    return [(f"{label} {run.agent.agent_id}", run.state.answer) for run in runs if run.state.answer]


def department_report(slug: str, text: str, specialists: list[ExecutionRun], check: JsonObject | None) -> JsonObject:
    """Return the report for the head's output."""
    gates = [
        run.state.check["gate"] | {"agentId": run.agent.agent_id} for run in specialists if run.state.check is not None
    ]
    if check is not None:
        gates.append(check["gate"])
    return {
        "department": slug,
        "summary": summary_of(text),
        "text": text,
        "specialists": [specialist_line(run) for run in specialists],
        "gates": gates,
    }


def orchestration_report(root: ExecutionRun, text: str, outcomes: list[DepartmentOutcome]) -> JsonObject:
    """Return the report of an orchestration for the root's output."""
    gates: list[JsonObject] = [one.gate | {"department": one.slug} for one in outcomes if one.gate is not None]
    if root.state.check is not None:
        gates.append(root.state.check["gate"])
    return {
        "department": root.agent.department.slug,
        "summary": summary_of(text),
        "text": text,
        "departments": [one.as_line() for one in outcomes],
        "gates": gates,
    }


def specialist_line(run: ExecutionRun) -> JsonObject:
    """Return a specialist's line in the report."""
    line: JsonObject = {
        "agentId": run.agent.agent_id,
        "executionId": run.id,
        "status": status_of(run).value,
        "qualityScore": run.state.quality_score,
        "reviewStatus": run.state.review_status.value,
        "meetsThreshold": meets_threshold(run.state.quality_score, run.agent.quality_threshold),
    }
    return line | cut_mark(run.state.truncated) | ({"error": run.failure} if run.failure else {})


def cut_mark(truncated: bool) -> JsonObject:
    """Return the field that marks an incomplete output, if it is one."""
    return {"truncated": True} if truncated else {}


def status_of(run: ExecutionRun) -> ExecutionStatus:
    """Return how a specialist ended."""
    return ExecutionStatus.FAILED if run.failure else ExecutionStatus.COMPLETED


def summary_of(text: str) -> str:
    """Return the section headed "Summary", else the first paragraph."""
    blocks = [block.strip() for block in text.replace("\r\n", "\n").split("\n\n") if block.strip()]
    for place, block in enumerate(blocks):
        heading, _, rest = block.partition("\n")
        if heading.lstrip("#* ").rstrip(":* ").lower() == "summary":
            following = blocks[place + 1] if place + 1 < len(blocks) else ""
            return (rest.strip() or following)[:MAX_SUMMARY_CHARACTERS]
    return next((block for block in blocks if not block.startswith("#")), "")[:MAX_SUMMARY_CHARACTERS]

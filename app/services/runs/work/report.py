"""Reports: the head's text, and what became of each specialist, each department, and each gate."""

from dataclasses import dataclass

from app.kit.json_values import JsonObject
from app.models.agent_execution import ExecutionStatus
from app.services.prompts.heads import SpecialistWork
from app.services.prompts.orchestrations import DepartmentWork
from app.services.runs.work.execution_run import ExecutionRun

MAX_SUMMARY_CHARACTERS = 1000


@dataclass(frozen=True)
class DepartmentOutcome:
    """What became of a department in an orchestration; without an execution it could not even begin."""

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
        """The outcome of a head's ended execution."""
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
        """The same for whoever builds on it."""
        report = self.report or {"summary": "", "text": ""}
        problem = self.failure["message"] if self.failure else None
        return DepartmentWork(
            self.slug, self.name, self.quality_score, report["summary"], report["text"], problem, self.truncated
        )

    def as_line(self) -> JsonObject:
        """What the orchestration's report says of it."""
        line: JsonObject = {
            "department": self.slug,
            "executionId": self.execution_id,
            "status": (ExecutionStatus.FAILED if self.failure else ExecutionStatus.COMPLETED).value,
            "qualityScore": self.quality_score,
            "summary": (self.report or {}).get("summary", ""),
        }
        return line | cut_mark(self.truncated) | ({"error": self.failure} if self.failure else {})


def work_of(run: ExecutionRun) -> SpecialistWork:
    """A specialist's part, for the head who writes the report."""
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


def department_report(slug: str, text: str, specialists: list[ExecutionRun], check: JsonObject | None) -> JsonObject:
    """The report as it stands in the root's output."""
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
    """The report of an orchestration as it stands in the root's output."""
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
    """What the report's list says of one specialist."""
    line: JsonObject = {
        "agentId": run.agent.agent_id,
        "executionId": run.id,
        "status": status_of(run).value,
        "qualityScore": run.state.quality_score,
        "reviewStatus": run.state.review_status.value,
    }
    return line | cut_mark(run.state.truncated) | ({"error": run.failure} if run.failure else {})


def cut_mark(truncated: bool) -> JsonObject:
    """The field of a line whose output is not complete."""
    return {"truncated": True} if truncated else {}


def status_of(run: ExecutionRun) -> ExecutionStatus:
    """How a specialist ended."""
    return ExecutionStatus.FAILED if run.failure else ExecutionStatus.COMPLETED


def summary_of(text: str) -> str:
    """The section headed "Summary", else the first paragraph."""
    blocks = [block.strip() for block in text.replace("\r\n", "\n").split("\n\n") if block.strip()]
    for place, block in enumerate(blocks):
        heading, _, rest = block.partition("\n")
        if heading.lstrip("#* ").rstrip(":* ").lower() == "summary":
            following = blocks[place + 1] if place + 1 < len(blocks) else ""
            return (rest.strip() or following)[:MAX_SUMMARY_CHARACTERS]
    return next((block for block in blocks if not block.startswith("#")), "")[:MAX_SUMMARY_CHARACTERS]

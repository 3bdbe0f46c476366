"""The prompts of an orchestration: for its departments, and for the head of Production at the end."""

from dataclasses import dataclass

from app.services.prompts.fences import CUT_NOTE, fenced, shortened

REQUEST = "REQUEST"
REPORT = "REPORT OF"
MAX_REPORT_CHARACTERS = 4_000
MAX_REPORTS_CHARACTERS = 24_000
MAX_FINAL_REPORT_CHARACTERS = 20_000


@dataclass(frozen=True)
class DepartmentWork:
    """One department's work as input of others; `quality_score` is 0 to 100."""

    slug: str
    name: str
    quality_score: float | None
    summary: str
    text: str
    problem: str | None = None
    truncated: bool = False


def orchestrated_prompt(request: str, before: list[DepartmentWork]) -> str:
    """Return a department's prompt in an orchestration: the client's request and the earlier reports."""
    if not before:
        return request
    limit = min(MAX_REPORT_CHARACTERS, MAX_REPORTS_CHARACTERS // len(before))
    parts = "\n\n".join(handed_on(work, limit) for work in before)
    return f"{request}\n\nOther departments have reported on this before you. Build on it:\n\n{parts}"


def handed_on(work: DepartmentWork, limit: int) -> str:
    """A report as the departments after it read it: whole where it is short, else its summary and its beginning."""
    if work.problem:
        return f"{work.name} failed and has no report."
    text = work.text
    if len(text) > limit:
        summary = work.summary[: limit // 2]
        text = f"Summary: {summary}\n\n{shortened(text, limit - len(summary))}"
    note = f" {CUT_NOTE}" if work.truncated else ""
    return f"{work.name}:{note}\n{fenced(f'{REPORT} {work.slug}', text)}"


def orchestration_prompt(request: str, works: list[DepartmentWork]) -> str:
    """Ask for the one result of all departments."""
    parts = "\n\n".join(map(describe_department, works))
    return (
        "Bring the departments' reports on a request together. "
        "Write in Markdown. Begin with a section '## Summary' of at most five sentences, then make one result of the "
        "reports: what the departments agree on, where they contradict each other and what you chose, which department "
        "failed or stayed below its gate, and what should happen next, in order. Invent nothing that is not in the "
        f"reports below.\n\nThe request:\n{fenced(REQUEST, request)}\n\n{parts}"
    )


def describe_department(work: DepartmentWork) -> str:
    """One department's part, for the final result."""
    if work.problem:
        return f"{work.name} ({work.slug}): failed, no score. {work.problem}"
    score = "no score" if work.quality_score is None else f"score {work.quality_score:g} of 100"
    title = f"{work.name} ({work.slug}): completed, {score}."
    if work.truncated:
        title = f"{title} {CUT_NOTE}"
    return f"{title}\n{fenced(f'{REPORT} {work.slug}', shortened(work.text, MAX_FINAL_REPORT_CHARACTERS))}"

"""Decisions on tool calls from the command line."""

from pathlib import Path

from tests.fixtures.approvals import pending, start
from tests.fixtures.model_server import ModelServer, completion
from tests.fixtures.processes import run_command
from tests.fixtures.runs import first_then
from tests.fixtures.services import ADMIN_KEY, StartService

AGENT = "dialogue-specialist-001"


async def test_approvals_are_listed_shown_edited_and_declined(
    start_service: StartService, model_server: ModelServer, models_config: Path, tmp_path: Path
) -> None:
    turn = completion(None, ("textStatistics", {"text": "One."}), ("textStatistics", {"text": "Two."}))
    model_server.on("work", first_then(turn, "Done."))
    async with start_service(models_config=models_config) as service:
        variables = {"DYNAMIC_AGENTS_URL": service.url, "DYNAMIC_AGENTS_KEY": ADMIN_KEY}

        async def approvals(*arguments: str) -> tuple[int, str]:
            return await run_command("approvals", *arguments, cwd=tmp_path, **variables)

        root = await start(service, f"agents/{AGENT}/runs", approvals="all", judge=False)
        waiting = {one["input"]["text"]: one["id"] for one in await pending(service, root, 2)}
        listed = await approvals()
        shown = await approvals("show", waiting["One."])
        wrong = await approvals("approve", waiting["One."], "--input", '{"text": 1}', "--yes")
        approved = await approvals("approve", waiting["One."], "--input", '{"text": "Three."}', "--yes")
        unattended = await approvals("decline", waiting["Two."])
        declined = await approvals("decline", waiting["Two."], "--message", "Not this one.", "--yes")
        again = await approvals("decline", waiting["Two."])
        empty = await approvals("list")
        await service.services.engine.wait_for_end(root)

    assert (listed[0], [one in listed[1] for one in waiting.values()]) == (0, [True, True]), listed[1]
    assert (shown[0], '"text": "One."' in shown[1], "Write." in shown[1]) == (0, True, True), shown[1]
    assert (wrong[0], "input.text" in wrong[1] or "string" in wrong[1]) == (1, True), wrong[1]
    assert (approved[0], "Approved" in approved[1]) == (0, True), approved[1]
    assert (unattended[0], "Add --yes" in unattended[1]) == (1, True), unattended[1]
    assert (declined[0], "Declined" in declined[1]) == (0, True), declined[1]
    assert (again[0], "A decision is final" in again[1], "Decline this" in again[1]) == (1, True, False), again[1]
    assert empty == (0, "No approval is pending.\n")
    edited, refused = model_server.calls_for("work")[-1].tool_results
    assert edited["input"] == {"text": "Three."}
    assert refused["error"]["message"] == "Not this one."

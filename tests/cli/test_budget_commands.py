"""Budgets from the command line."""

from pathlib import Path

import pytest

from tests.fixtures.processes import run_command, serving


@pytest.mark.slow
async def test_budgets_are_set_listed_and_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, ADMIN_API_KEY="a-bootstrap-admin-key") as server:
        common = ("--url", server.url, "--key", "a-bootstrap-admin-key")

        async def budgets(*arguments: str) -> tuple[int, str]:
            return await run_command("budgets", *arguments, *common, cwd=tmp_path)

        limits = ("--period", "month", "--max-tokens", "1000000", "--max-cost-usd", "25")
        made = await budgets("set", "department:story", *limits, "--timezone", "Europe/Berlin")
        refused = await budgets("set", "global", "--period", "day")
        listed = await budgets("list")
        deleted = await budgets("delete", "department:story")
        unknown = await budgets("delete", "department:story")

    assert made[0] == 0, made[1]
    assert (refused[0], "--max-tokens" in refused[1]) == (1, True)
    assert (listed[0], "department:story" in listed[1], "1,000,000" in listed[1]) == (0, True, True), listed[1]
    assert deleted == (0, "The budget of department:story is deleted.\n")
    assert (unknown[0], "There is no budget" in unknown[1]) == (1, True)

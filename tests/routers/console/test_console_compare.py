"""Comparing two runs, at an address that can be shared."""

import re

from playwright.async_api import expect

from tests.fixtures.browser import Visit
from tests.fixtures.model_server import Call, ModelServer
from tests.fixtures.services import Service

LINES = [f"Line {number} of the outline." for number in range(1, 31)]


async def run_twice(service: Service, model_server: ModelServer, project: str) -> tuple[str, str]:
    """Two runs of the Story department whose reports differ in one word of line 20."""
    ids: list[str] = []
    for word in ("keeper", "captain"):
        report = "\n\n".join([*LINES[:19], f"The {word} leaves.", *LINES[20:]])
        model_server.on("report", lambda _, report=report: report)
        model_server.on("work", lambda _, word=word: f"A {word} alone.")
        run = await service.run_department("story", project=project, prompt="Compare Tonga.")
        ids.append(run["executionId"])
    return ids[0], ids[1]


async def test_two_runs_are_chosen_in_the_list_and_compared(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    left, right = await run_twice(console.service, model_server, project)
    page = console.page
    await console.open("/runs?q=compare+tonga")
    boxes = page.get_by_role("checkbox", name="Compare Compare Tonga.")
    await expect(page.get_by_role("button", name="Compare")).to_be_disabled()
    await boxes.nth(1).check()
    await boxes.nth(0).check()
    await page.get_by_role("button", name="Compare").click()

    await expect(page).to_have_url(f"{console.service.url}/compare?left={left}&right={right}")
    await expect(page.get_by_text("Both runs had the same prompt.")).to_be_visible()
    difference = page.get_by_role("region", name="Difference of the outputs", exact=True)
    await expect(difference.locator("mark")).to_have_text(["keeper", "captain"])
    await expect(difference).not_to_contain_text("Line 2 of")
    await difference.get_by_role("button", name=re.compile("Show .* equal lines")).first.click()
    await expect(difference).to_contain_text("Line 2 of")
    figures = page.get_by_role("region", name="Figures")
    for name in ("Status", "Score", "Cost", "Input tokens", "Output tokens", "Duration"):
        await expect(figures.get_by_role("rowheader", name=name)).to_be_visible()
    await page.get_by_role("button", name="Inline").click()
    await expect(difference.locator("mark")).to_have_text(["keeper", "captain"])


async def test_the_outputs_of_specialists_are_compared_at_an_address(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    left, right = await run_twice(console.service, model_server, project)
    page = console.page
    await console.open(f"/compare?left={left}&right={right}")
    specialists = page.get_by_role("region", name="Specialists", exact=True)
    await specialists.get_by_role("button", name=re.compile("Compare the outputs")).first.click()
    await expect(page).to_have_url(re.compile(r"specialist=\S+"))
    await page.reload()

    difference = page.get_by_role("region", name=re.compile("Difference of the outputs of"))
    await expect(difference.locator("mark")).to_have_text(["keeper", "captain"])
    await page.get_by_role("button", name="Swap sides").click()
    await expect(page).to_have_url(re.compile(f"left={right}&right={left}"))


async def test_the_page_of_a_run_leads_to_the_choice_of_the_other(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    model_server.on("work", answer_with_the_prompt)
    runs = [
        await console.service.run_agent("plot-specialist-001", project=project, judge=False, prompt=f"Nauru {word}.")
        for word in ("first", "second")
    ]
    page = console.page
    await console.open(f"/runs/{runs[1]['executionId']}")
    await page.get_by_role("button", name="Compare").click()
    await page.get_by_label("Search").fill("nauru")
    await page.get_by_role("button", name="Choose Nauru first.").click()

    await expect(page.get_by_role("region", name="Difference of the prompts")).to_contain_text("Nauru second.")
    await expect(page.get_by_role("region", name="Right run")).to_contain_text("Nauru first.")
    await page.get_by_role("region", name="Right run").get_by_role("link", name="Open the right run").click()
    await expect(page).to_have_url(f"{console.service.url}/runs/{runs[0]['executionId']}")


def answer_with_the_prompt(call: Call) -> str:
    """An output that differs as the prompts do."""
    return str(call.messages[-1]["content"])

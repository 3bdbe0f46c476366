"""Every page: accessible in light and dark, without sideways scrolling, and safe from what others wrote."""

import json
import re
from typing import Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.fixtures.browser import Visit
from tests.fixtures.model_server import Call, ModelServer, completion, judgment
from tests.fixtures.services import Service

PAGES = (
    *("/runs", "/runs?minCostUsd=0", "/runs/RUN", "/start", "/inbox", "/usage?show=calls", "/quality", "/operations"),
    *("/catalog/departments", "/catalog/agents/plot-specialist-001", "/catalog/tools/textStatistics"),
    *(
        "/catalog/tools/new",
        "/compare",
        "/compare?left=RUN",
        "/compare?left=RUN&right=OTHER&specialist=plot-specialist-001",
    ),
)
CANARY = (
    "<img src=x onerror=\"window.hacked='img'\"><script>window.hacked='script'</script>"
    "<svg onload=\"window.hacked='svg'\"></svg><iframe srcdoc='<script>parent.hacked=1</script>'></iframe>"
    "[link](javascript:window.hacked=1) ![image](https://attacker.example/pixel.png)"
    "<a href='javascript:window.hacked=2'>click</a><style>body{display:none}</style>"
    "<form action='https://attacker.example'><input name='key'></form> canary-text"
)


@pytest.fixture(scope="session")
async def paths(session_service: Service) -> list[str]:
    """The addresses of the pages, with two department runs that have ended."""
    runs = [await session_service.run_department("story", prompt=f"Write the {word}.") for word in ("one", "other")]
    left, right = (run["executionId"] for run in runs)
    return [path.replace("RUN", left).replace("OTHER", right) for path in PAGES]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
async def test_axe_finds_no_violation(
    browser: Browser, shared_service: Service, paths: list[str], scheme: Literal["light", "dark"]
) -> None:
    context = await browser.new_context(
        color_scheme=scheme, reduced_motion="reduce", viewport={"width": 1280, "height": 900}
    )
    visit = Visit(await context.new_page(), shared_service)
    await visit.page.goto(shared_service.url)
    await visit.page.get_by_label("API key").wait_for()
    found: dict[str, Any] = {"/": await violations(visit)}
    await visit.sign_in()
    for path in paths:
        await visit.open(path)
        found[path] = await violations(visit)
    await context.close()

    assert {path: found[path] for path in found if found[path]} == {}


async def violations(visit: Visit) -> list[str]:
    """The complaints of axe about the page."""
    result = await Axe().run(visit.page)
    return [
        f"{one['id']}: {node['target']} {node['failureSummary'][:200]}"
        for one in result.response["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.slow
async def test_no_page_scrolls_sideways_at_360_pixels(console: Visit, paths: list[str]) -> None:
    await console.page.set_viewport_size({"width": 360, "height": 740})
    wide: dict[str, int] = {}
    for path in paths:
        await console.open(path)
        beyond = await console.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        if beyond > 0:
            wide[path] = beyond

    assert wide == {}


@pytest.mark.long
async def test_no_text_of_models_tools_or_documents_runs_or_loads_anything(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    http = console.service.http
    agent = {
        **{"agentId": "canary-001", "name": CANARY[:190], "description": CANARY, "department": "story"},
        **{"instructionsPrompt": CANARY, "specialization": CANARY[:190], "skills": [CANARY[:190]]},
        **{"toolNames": ["textStatistics"], "requiresReview": False},
    }
    assert (await http.post("/api/v1/agents", json=agent)).status_code == 201

    def work(call: Call) -> Any:  # noqa: ANN401 - what a script may answer
        if not call.tool_results:
            return completion(CANARY, ("textStatistics", {"text": CANARY}))
        return completion(CANARY)

    model_server.on("work", work)
    model_server.on("judge", completion(judgment(confidence=0.9, reasoning=CANARY)))
    run = await console.service.run_agent("canary-001", project=project, prompt=CANARY, tags=[CANARY[:99]])
    await http.post(f"/api/v1/executions/{run['executionId']}/review", json={"status": "approved", "notes": CANARY})

    events = await console.service.events(run["executionId"])
    assert "canary-text" in json.dumps(events)
    paths = ["/runs?show=all", f"/runs/{run['executionId']}", "/inbox", "/catalog/agents", "/catalog/agents/canary-001"]
    one_of_each = {event["type"]: event["seq"] for event in events}
    paths += [f"/runs/{run['executionId']}?event={seq}" for seq in one_of_each.values()]
    for path in paths:
        await console.open(path)
        if path == f"/runs/{run['executionId']}":
            for tab in ("Prompt", "Tools", "Quality", "Cost", "JSON", "Output"):
                await console.page.get_by_role("tab", name=tab).click()
                await console.page.locator(".skeleton").first.wait_for(state="hidden")
            await expect(console.page.get_by_role("tabpanel")).to_contain_text("canary-text")
        assert await console.page.evaluate("() => window.hacked") is None, path
        assert await console.page.locator(".prose img, .prose form, .prose iframe, .prose style").count() == 0
        assert await console.page.locator("a[href^='javascript']").count() == 0
    assert (await http.delete("/api/v1/agents/canary-001")).status_code in (204, 409)


async def test_five_hundred_executions_are_few_rows_in_the_page(console: Visit, project: str) -> None:
    run = await console.service.run_department("audio", project=project)
    executions = console.service.services.database["agent-executions"]
    [child] = await executions.find({"parentExecutionId": run["executionId"]}, {"_id": 0}).limit(1).to_list()
    copies = [{**child, "executionId": f"{run['executionId']}_{number}"} for number in range(500)]
    await executions.insert_many(copies)
    page = console.page
    await console.open(f"/runs/{run['executionId']}")
    rows = page.get_by_role("treegrid").get_by_role("row")
    await expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", re.compile(r"^50\d$"))
    await rows.first.focus()
    assert await rows.count() < 250

    await page.keyboard.press("End")
    await expect(page.get_by_role("treegrid").locator("[aria-selected=true]")).to_be_focused()
    await expect(page).to_have_url(re.compile(r"at=exec_\w+"))
    await executions.delete_many({"executionId": {"$in": [copy["executionId"] for copy in copies]}})


@pytest.mark.long
async def test_ten_thousand_events_are_a_short_list_in_the_page(console: Visit, project: str) -> None:
    run = await console.service.run_agent("plot-specialist-001", project=project, judge=False)
    events = await console.service.events(run["executionId"])
    middle = dict(next(event for event in events if event["type"] == "agent-response"))
    many = [{**middle, "seq": seq, "content": f"Event {seq}"} for seq in range(1, 10_001)]
    lines = [json.dumps(event) for event in many]
    await console.page.route_web_socket(
        "**/api/agent-events", lambda socket: socket.on_message(lambda _: [socket.send(line) for line in lines])
    )
    await console.open(f"/runs/{run['executionId']}")
    rows = console.page.get_by_role("list", name="Events").get_by_role("listitem")
    await expect(rows.first).to_contain_text("10000")

    assert await rows.count() < 80
    await console.page.locator(".virtual").evaluate("(list) => { list.scrollTop = list.scrollHeight / 2; }")
    await expect(rows.filter(has_text="Event 5000")).to_have_count(1)

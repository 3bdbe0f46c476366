"""Nothing that others wrote can run or load anything: every text that the API serves carries an attack."""

import json
import re
from typing import Any

import pytest
from playwright.async_api import Route, WebSocketRoute, expect

from tests.fixtures.browser import Visit
from tests.fixtures.model_server import Call, ModelServer, completion, fault
from tests.fixtures.services import Service

CANARY = (
    " <img src=x onerror=\"window.hacked='img'\"><script>window.hacked='script'</script>"
    "<svg onload=\"window.hacked='svg'\"></svg><iframe srcdoc='<script>parent.hacked=1</script>'></iframe>"
    "[link](javascript:window.hacked=1) ![image](https://attacker.example/pixel.png)"
    "<a href='javascript:window.hacked=2'>click</a><style>body{display:none}</style>"
    "<form action='https://attacker.example'><input name='key'></form> canary-text"
)
MACHINE_FIELDS = re.compile(
    r"(^|[a-z])(Id|Ids|At|Until|Seq|Status|Reason|Cursor|Slug|Key)$|^(id|seq|key|slug|status|kind|type|role|source|period|"
    r"timestamp|sort|from|to|agent|department|project|episode|scope|timezone|purpose|outcome|transport|version|startedAt|"
    r"color|executionTime|self|events|stream|websocket|decision)$"
)
"""Fields whose values the service chooses or checks, and does not take from models, tools or documents."""
DANGERS = (
    "main img, main iframe, main style, main script, main object, main embed, main form[action], main [onerror],"
    "main [onload], a[href^='javascript' i], main [srcdoc], main input[name=key]"
)
TABS = ("Prompt", "Tools", "Quality", "Cost", "JSON", "Output")


def poisoned(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value with the attack behind every free text."""
    if isinstance(value, dict):
        return {name: poisoned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    return value + CANARY if isinstance(value, str) and not MACHINE_FIELDS.search(key) else value


async def poison(visit: Visit) -> None:
    """Put the attack into every answer and event that the console receives."""

    async def answer(route: Route) -> None:
        response = await route.fetch()
        kind = response.headers.get("content-type", "")
        if "json" not in kind or response.status >= 500:
            await route.fulfill(response=response)
            return
        await route.fulfill(response=response, body=json.dumps(poisoned(await response.json())))

    def follow(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda text: socket.send(json.dumps(poisoned(json.loads(text)))))

    await visit.page.route(re.compile(r"/(api/v1|readyz)"), answer)
    await visit.page.route_web_socket("**/api/agent-events", follow)


async def check(visit: Visit, where: str) -> None:
    """Nothing has run, and nothing in the page could."""
    assert await visit.page.evaluate("() => window.hacked") is None, where
    found = await visit.page.evaluate(f"() => [...document.querySelectorAll(`{DANGERS}`)].map((one) => one.outerHTML)")
    assert found == [], where


async def go(visit: Visit, path: str) -> None:
    """Change the address without loading the console again."""
    await visit.page.evaluate(
        "(path) => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path
    )
    await visit.page.locator("h1").first.wait_for()
    await visit.page.locator(".skeleton").first.wait_for(state="hidden")


@pytest.fixture
async def runs(shared_service: Service, model_server: ModelServer, project: str) -> list[dict[str, Any]]:
    """A department run with tools and a review, and a run that failed."""

    def work(call: Call) -> Any:  # noqa: ANN401 - what a script may answer
        return "Done." if call.tool_results else completion("Counting.", ("textStatistics", {"text": "Two words"}))

    model_server.on("work", work)
    done = await shared_service.run_department("story", project=project, tags=["canary"])
    model_server.on("work", fault(400, "Refused."))
    failed = await shared_service.run_agent("plot-specialist-001", project=project, judge=False)
    await shared_service.http.put("/api/v1/budgets/department:video", json={"maxTokens": 1_000_000, "period": "day"})
    await shared_service.http.post(
        f"{done['links']['self']}/review", json={"status": "rejected", "notes": "Too short."}
    )
    return [done, failed]


async def test_no_text_of_the_api_runs_or_loads_on_any_page(visit: Visit, runs: list[dict[str, Any]]) -> None:
    done, failed = (run["executionId"] for run in runs)
    await visit.sign_in()
    await poison(visit)
    await visit.page.reload()
    await visit.page.get_by_role("navigation", name="Main").wait_for()
    await expect(visit.page.get_by_role("main")).to_contain_text("canary-text")
    specialist = (await visit.service.http.get(f"/api/v1/executions/{done}/tree")).json()["children"][0]["executionId"]
    for path in (
        *(
            "/runs?show=all",
            "/inbox?kind=review",
            "/inbox?kind=approval",
            "/start",
            f"/compare?left={done}&right={failed}",
            f"/compare?left={done}",
        ),
        *("/catalog/departments", "/catalog/departments/story", "/catalog/agents/plot-specialist-001"),
        *("/catalog/tools", "/catalog/tools/textStatistics", "/quality", "/operations"),
        *(f"/usage?by={group}" for group in ("day", "model", "tag", "apiKey")),
    ):
        await go(visit, path)
        await check(visit, path)
    for path in (f"/runs/{done}", f"/runs/{done}?at={specialist}", f"/runs/{failed}"):
        await go(visit, path)
        for tab in TABS:
            await visit.page.get_by_role("tab", name=tab, exact=True).click()
            await visit.page.locator(".skeleton").first.wait_for(state="hidden")
            await check(visit, f"{path} {tab}")
    for event in await visit.service.events(done):
        await go(visit, f"/runs/{done}?event={event['seq']}")
        await check(visit, f"event {event['type']}")
    await visit.service.http.delete("/api/v1/budgets/department:video")


async def test_texts_that_a_tool_returns_and_logs_stay_texts(console: Visit) -> None:
    page = console.page
    text = json.dumps(CANARY)
    code = f"(input) => {{ console.log({text}); if (input.fail) throw new Error({text}); return {text}; }}"
    body = {
        **{"toolName": "canaryTool", "displayName": CANARY[:90], "description": CANARY, "executeFunction": code},
        **{"inputSchema": {"type": "object"}, "isGlobal": True, "version": "1.0.0", "exampleInputs": []},
    }
    created = await console.service.http.post("/api/v1/custom-tools", json=body)
    assert created.status_code == 201, created.text
    for path in ("/catalog/tools", "/catalog/tools/canaryTool"):
        await console.open(path)
        await check(console, path)
    for given in ("{}", '{"fail": true}'):
        await page.get_by_label("Input", exact=True).fill(given)
        await page.get_by_role("button", name="Try").click()
        await expect(page.get_by_role("form", name="Try the tool")).to_contain_text("canary-text")
        await check(console, f"try {given}")
    await console.service.http.delete("/api/v1/custom-tools/canaryTool")

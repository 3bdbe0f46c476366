"""Tool calls that wait for a person, in the console: the inbox and the page of the run."""

from playwright.async_api import expect

from tests.fixtures.approvals import pending, start
from tests.fixtures.browser import Visit
from tests.fixtures.model_server import Json, ModelServer, completion
from tests.fixtures.runs import first_then

AGENT = "dialogue-specialist-001"
MALICIOUS = "<img src=x onerror=alert(1)>"


async def waiting_run(console: Visit, model_server: ModelServer, project: str, *inputs: Json) -> str:
    """A run whose calls of `textStatistics` wait."""
    calls = [("textStatistics", given) for given in inputs]
    model_server.on("work", first_then(completion(None, *calls), "Done."))
    body = {"project": project, "approvals": "all", "judge": False, "prompt": f"Count. {MALICIOUS}"}
    execution_id = await start(console.service, f"agents/{AGENT}/runs", **body)
    await pending(console.service, execution_id, len(inputs))
    return execution_id


async def output_texts(console: Visit, execution_id: str) -> list[Json]:
    """The results of the run's calls."""
    return [one for one in await console.service.events(execution_id) if one["type"] == "tool-result"]


async def test_the_inbox_shows_the_exact_input_and_approves_an_edited_one(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    page = console.page
    execution_id = await waiting_run(console, model_server, project, {"text": f"One two. {MALICIOUS}"})
    await console.open("/inbox")
    card = page.get_by_role("region", name="Approval")
    await expect(card.get_by_role("region", name="Input")).to_contain_text(f'"text": "One two. {MALICIOUS}"')
    await expect(card).to_contain_text("Count.")

    await card.get_by_role("button", name="Edit input").click()
    await card.get_by_label("Input", exact=True).fill('{"text": 7}')
    await card.get_by_role("button", name="Approve").click()
    await expect(card.get_by_label("Input", exact=True)).to_have_attribute("aria-invalid", "true")
    await card.get_by_label("Input", exact=True).fill('{"text": "Only three words."}')
    await card.get_by_role("button", name="Approve").click()

    await expect(page.get_by_text("Approved: the call is made")).to_be_visible()
    await console.service.services.engine.wait_for_end(execution_id)
    await console.open(f"/runs/{execution_id}")
    await expect(page.locator(".run-title .status").first).to_have_text("Completed")
    [result] = await output_texts(console, execution_id)
    assert (result["editedInput"], result["output"]["words"]) == ({"text": "Only three words."}, 3)


async def test_a_run_shows_what_it_waits_for_and_continues_after_a_decision(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    page = console.page
    execution_id = await waiting_run(console, model_server, project, {"text": "One."}, {"text": "Two."})
    await console.open(f"/runs/{execution_id}")
    await expect(page.locator(".run-title")).to_contain_text("Waiting for approval")
    await expect(page.get_by_role("treegrid")).to_contain_text("APPROVAL")
    calls = page.get_by_role("region", name="Approvals")
    await expect(calls.get_by_role("button", name="Approve")).to_have_count(2)

    first = calls.locator(".card").first
    await first.get_by_label("Message").fill("Not this one.")
    await first.get_by_role("button", name="Decline").click()
    await expect(calls.get_by_role("button", name="Approve")).to_have_count(1)
    await calls.get_by_role("button", name="Approve").click()

    await expect(page.locator(".run-title .status").first).to_have_text("Completed")
    await expect(page.locator(".run-title")).not_to_contain_text("Waiting for approval")
    outputs = [one["output"] for one in await output_texts(console, execution_id)]
    assert {"error": {"code": "declined", "message": "Not this one."}} in outputs
    await expect(page.get_by_role("list", name="Events")).to_contain_text("approval-decided")


async def test_a_list_says_that_a_run_waits_and_every_status_is_one_line(
    console: Visit, model_server: ModelServer, project: str
) -> None:
    page = console.page
    execution_id = await waiting_run(console, model_server, project, {"text": "One."})

    await console.open("/runs")
    row = page.get_by_role("row").filter(has=page.locator(f"a[href='/runs/{execution_id}']"))
    await expect(row.locator(".status").first).to_have_text("Waiting for approval")
    assert set(await directions(console)) == {"row"}

    await console.open(f"/runs/{execution_id}")
    await expect(page.locator(".run-title .status").first).to_have_text("Running")
    assert set(await directions(console)) == {"row"}
    await console.service.http.post(f"/api/v1/executions/{execution_id}/cancel")


async def directions(console: Visit) -> list[str]:
    """How the icon and the word of each status are arranged: a class of a page must not reach them."""
    return await console.page.locator(".status").evaluate_all(
        "found => found.map(one => getComputedStyle(one).flexDirection)"
    )

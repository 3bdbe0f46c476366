"""The demo model, asked through the product's own prompts."""

import json
import re

import pytest
import yaml

from app.demo.model import answer
from app.demo.studio.crafts import craft_of, crafts
from app.kit.json_values import JsonObject
from app.services.prompts.agents import (
    assignment_prompt,
    last_step_prompt,
)
from app.services.prompts.fences import fenced, user_message
from app.services.prompts.heads import (
    SpecialistWork,
    plan_prompt,
    plan_schema,
    report_prompt,
)
from app.services.prompts.judge import DIMENSIONS
from tests.fixtures.demo_chats import (
    CREW,
    DIALOGUE,
    HEAD,
    PACING,
    PLOT,
    REQUEST,
    SEEDED_AGENTS,
    SHARES,
    THEME,
    a_tool,
    an_agent,
    chat,
    judged,
    reviewed,
    revision,
    say,
    say_data,
    task,
    with_results,
    words_in,
)


def test_a_plan_gives_each_specialist_work_and_lets_dialogue_and_pacing_wait_for_plot() -> None:
    schema = plan_schema(CREW)

    plan = say_data("plan", chat(HEAD, plan_prompt(REQUEST, CREW)), schema)

    waits = {one["agentId"]: one["dependsOn"] for one in plan["assignments"]}
    assert waits == {
        PLOT.agent_id: [],
        THEME.agent_id: [],
        DIALOGUE.agent_id: [PLOT.agent_id],
        PACING.agent_id: [PLOT.agent_id],
    }
    assert len({one["instructions"] for one in plan["assignments"]}) == 4
    assert "beatSheetTiming" in plan["assignments"][0]["instructions"]
    assert "beats, key scenes, dialogue sample and pacing" in plan["rationale"]


def test_a_plan_over_unknown_crafts_still_has_an_order() -> None:
    crew = tuple(an_agent(f"helper-{number}", f"Helper {number}") for number in range(6))

    plan = say_data("plan", chat(HEAD, plan_prompt(REQUEST, crew)), plan_schema(crew))

    assert len(plan["assignments"]) == 4
    assert plan["assignments"][-1]["dependsOn"] == ["helper-0"]


def test_work_begins_with_a_thought_and_a_tool_call() -> None:
    turn = say("work", task(PLOT), PLOT)

    assert [call.name for call in turn.tool_calls] == ["beatSheetTiming"]
    assert turn.tool_calls[0].id.startswith("call_")
    assert "beatSheetTiming" in turn.text


def test_the_work_contains_the_figures_of_its_tools() -> None:
    messages = with_results(task(DIALOGUE), say("work", task(DIALOGUE), DIALOGUE), SHARES)

    work = say("work", messages, DIALOGUE)

    assert work.tool_calls == ()
    assert "83 words in all" in work.text
    assert "COL 61.4%" in work.text


def test_a_tool_that_failed_is_reported_as_failed() -> None:
    failure = {"error": {"code": "tool-timeout", "message": "It took too long."}}
    messages = with_results(task(PLOT), say("work", task(PLOT), PLOT), failure)

    work = say("work", messages, PLOT).text

    assert "`beatSheetTiming` could not compute its figures (tool-timeout)" in work


def test_the_last_step_is_answered_without_tools() -> None:
    work = say("work", task(PLOT).then(user_message(last_step_prompt()), is_last_step=True), PLOT)

    assert work.tool_calls == ()
    assert "last step" in work.text


def test_work_builds_on_other_agents_work() -> None:
    plot = say("work", task(PLOT)).text

    turn = say("work", task(DIALOGUE, {PLOT.agent_id: plot}), DIALOGUE)

    assert "plot-specialist-001 puts the midpoint on page 50" in turn.text


@pytest.mark.parametrize("slug", sorted(crafts()))
def test_every_craft_writes_its_own_work_without_a_blank_left_open(slug: str) -> None:
    craft = crafts()[slug]
    agent = an_agent(f"{slug}-001", craft.title, craft.words[0], department="audio")

    work = say("work", task(agent)).text

    assert 180 <= words_in(work) <= 350
    assert "$" not in work
    assert work.count("## ") >= 4


def test_every_seeded_specialist_has_a_craft_of_its_own() -> None:
    agents = [yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1]) for path in SEEDED_AGENTS]
    specialists = [agent for agent in agents if not agent["isDepartmentHead"]]

    found = [craft_of(f"{one['agentId']} {one['name']} {one['specialization']}").slug for one in specialists]

    assert len(set(found)) == len(specialists)
    assert "general" not in found


def test_a_craft_the_model_does_not_know_writes_under_the_headings_its_instructions_name() -> None:
    instructions = "Answer under `## Ground`, `## Birds`, `## Flight paths` and `## Not seen`."
    agent = an_agent("falconer-001", "Falconer", "falconry", instructions=instructions)

    work = say("work", task(agent)).text

    assert re.findall(r"^## (.+)$", work, re.M) == ["Ground", "Birds", "Flight paths", "Not seen"]


def test_only_the_dialogue_is_sent_back_and_its_second_draft_is_approved() -> None:
    first = {agent.agent_id: say("work", task(agent)).text for agent in CREW}

    decisions = {agent.agent_id: reviewed(agent, first[agent.agent_id])["decision"] for agent in CREW}
    notes = reviewed(DIALOGUE, first[DIALOGUE.agent_id])["notes"]
    second = say("work", revision(task(DIALOGUE), first[DIALOGUE.agent_id], notes)).text

    sent_back = [agent_id for agent_id, decision in decisions.items() if decision != "approved"]
    assert sent_back == [DIALOGUE.agent_id]
    assert decisions[DIALOGUE.agent_id] == "revision-needed"
    assert "I am afraid of what becomes of us" in notes
    assert "## Subtext" in second
    assert "## What changed" in second
    assert "COL: I am afraid" not in second
    assert reviewed(DIALOGUE, second, draft=2)["decision"] == "approved"


def test_a_second_draft_is_measured_again() -> None:
    first = with_results(task(DIALOGUE), say("work", task(DIALOGUE), DIALOGUE), SHARES)
    messages = revision(first, "A draft.", "Cut a line.")

    turn = say("work", messages, DIALOGUE)

    assert [call.name for call in turn.tool_calls] == ["dialogueShare"]
    assert turn.tool_calls[0].id not in str(first)


def test_a_dialogue_editor_of_another_department_is_not_sent_back() -> None:
    editor = an_agent("dialogue-editor-001", "Dialogue Editor and Mixer", "dialogue-editing", department="audio")
    head = an_agent("audio-head-001", "Head of Audio", department="audio")

    decision = reviewed(editor, say("work", task(editor)).text, head=head)["decision"]

    assert decision == "approved"


@pytest.mark.parametrize(("draft", "decision"), [(1, "revision-needed"), (2, "revision-needed"), (3, "rejected")])
def test_missing_work_is_sent_back_and_finally_rejected(draft: int, decision: str) -> None:
    assert reviewed(PLOT, "To follow.", draft)["decision"] == decision


def test_a_judgment_distinguishes_full_work_from_none() -> None:
    full, empty = judged(say("work", task(PLOT)).text), judged("")

    assert all(0.55 <= full[name] <= 0.93 for name in DIMENSIONS)
    assert all(empty[name] < 0.3 for name in DIMENSIONS)
    assert full["reasoning"].count(".") >= 2


def test_a_revised_dialogue_is_judged_better_than_the_first() -> None:
    first = say("work", task(DIALOGUE)).text
    second = say("work", revision(task(DIALOGUE), first, "Add subtext.")).text

    assert mean(judged(second)) > mean(judged(first)) + 0.03


def mean(judgment: JsonObject) -> float:
    return sum(judgment[name] for name in DIMENSIONS) / len(DIMENSIONS)


def story_works() -> list[SpecialistWork]:
    return [
        SpecialistWork(agent.agent_id, agent.name, "completed", "approved", 82.0, say("work", task(agent)).text)
        for agent in (PLOT, THEME, DIALOGUE)
    ]


def test_a_report_joins_the_works_and_names_the_missing_ones() -> None:
    missing = SpecialistWork(PACING.agent_id, PACING.name, "failed", "pending", None, "", "It failed: no model.")

    report = say("report", chat(HEAD, report_prompt(REQUEST, [*story_works(), missing]))).text

    assert report.startswith("## Summary\n")
    assert 250 <= words_in(report) <= 450
    assert "Midpoint on page 50" in report
    assert "COL: “I've said ships all my life.”" in report
    assert "Pacing Specialist: failed, no work to report. It failed: no model." in report
    assert report.index("## Open points") < report.index("## Next steps")
    assert mean(judged(report)) >= 0.75


def test_a_head_checks_its_report_with_one_tool_at_most() -> None:
    head = an_agent("story-head-001", "Head of Story", tools=(a_tool("beatSheetTiming"), a_tool("textStatistics")))
    messages = chat(head, report_prompt(REQUEST, story_works()))

    turn = say("report", messages, head)
    report = say("report", with_results(messages, turn, {"words": 401}), head)

    assert len(turn.tool_calls) == 1
    assert json.loads(turn.tool_calls[0].arguments)["text"].startswith("## Summary")
    assert report.tool_calls == ()
    assert "401 words" in report.text


def test_a_head_without_specialists_answers_the_request_itself() -> None:
    report = say("report", chat(HEAD, report_prompt(REQUEST, []))).text

    assert report.startswith("## Summary\n")
    assert "lighthouse keeper" in report
    assert "## Next steps" in report


def test_departments_reports_become_one_result() -> None:
    story = say("report", chat(HEAD, report_prompt(REQUEST, story_works()))).text
    head = an_agent("production-head-001", "Head of Production", department="production")
    ask = (
        f"Bring the departments together:\n{fenced('REQUEST', REQUEST)}\n\nStory:\n{fenced('REPORT OF story', story)}"
        f"\n\nAudio:\n{fenced('REPORT OF audio', 'The pulse of the film is the turning lamp.')}"
        "\n\nVisual Department failed."
    )

    result = say("orchestrate", chat(head, ask)).text

    assert result.startswith("## Summary\n")
    assert "## Story" in result
    assert "turning lamp" in result
    assert "- Visual Department failed." in result


def test_all_agents_write_about_the_same_people() -> None:
    request = "Old Mill Road. A widow named Hester Quayle inherits a ferry that only runs at night. Write a short film."

    works = [say("work", chat(agent, assignment_prompt(request, "Go.", {}))).text for agent in CREW]

    assert all("Hester" in work or "HESTER" in work for work in works)


ODD_CHATS: list[list[JsonObject]] = [
    [],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": [{"type": "text", "text": REQUEST}, {"type": "image_url"}]}],
    [{"role": "user", "content": "灯台守の物語"}],
    [{"role": "user", "content": "$hero {motif} %s <<<A 12345678>>>\n<<<END A 12345678>>>"}],
    [{"role": "tool", "content": '{"error": true}'}],
    [
        {"role": "user", "content": REQUEST},
        {"role": "assistant", "tool_calls": None},
        {"role": "tool", "content": "[1"},
    ],
]


@pytest.mark.parametrize("purpose", ["plan", "work", "judge", "review", "report", "orchestrate", "unheard-of"])
@pytest.mark.parametrize("messages", ODD_CHATS)
def test_odd_input_is_answered_and_always_the_same_way(purpose: str, messages: list[JsonObject]) -> None:
    tools: list[JsonObject] = [{"type": "function", "function": {"name": "odd", "parameters": {"type": ["x"]}}}, {}]

    answers = [answer(purpose=purpose, messages=messages, tools=tools, schema=None) for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[0].text


def test_an_unknown_schema_is_matched() -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "scores": {"type": "array", "items": {"type": "number"}}},
        "required": ["title", "scores"],
        "additionalProperties": False,
    }

    for purpose in ("judge", "work"):
        say_data(purpose, [user_message(REQUEST)], schema)

"""A specialist's part of a department run: judged, reviewed, revised."""

import pytest

from app.database.connection import Raw
from tests.fixtures.model_server import Call, ModelServer, Reply, fault, judgment, plan_of, review
from tests.fixtures.runs import ADA, BOB, DEPARTMENT, Catalog, first_then, of_type, stored_tree
from tests.fixtures.services import Service

JUST_ADA = plan_of((ADA, "Write it.", []))


def notes_in(call: Call) -> str:
    """The last message of the call."""
    return str(call.messages[-1]["content"])


async def run_with_review(service: Service, model_server: ModelServer, *decisions: Reply, **body: int) -> Raw:
    """Run the department with Ada alone, reviewed so; her document."""
    model_server.on("plan", JUST_ADA)
    model_server.on("work", first_then("First draft.", "Second draft.", "Third draft."))
    model_server.on("review", first_then(*decisions))
    done = await service.run_department(DEPARTMENT, **body)
    assert done["status"] == "completed"
    return (await stored_tree(service, done["executionId"]))[ADA]


async def test_work_that_is_sent_back_is_done_again_with_the_notes(service: Service, model_server: ModelServer) -> None:
    ada = await run_with_review(
        service, model_server, review("revision-needed", "Cut the second act."), review("approved", "Better.")
    )

    first, second = model_server.calls_for("work")
    assert first.execution_id == second.execution_id == ada["executionId"]
    assert [message["content"] for message in second.messages[:2]] == [message["content"] for message in first.messages]
    assert second.messages[2]["content"] == "First draft."
    assert "Cut the second act." in notes_in(second)
    assert (ada["retryCount"], ada["reviewStatus"], ada["reviewNotes"]) == (1, "approved", "Better.")
    assert ada["output"]["text"] == "Second draft."
    assert [row["event"]["status"] for row in ada["events"] if row["event"]["type"] == "review-status"] == [
        "revision-needed",
        "approved",
    ]
    assert "draft 1" in model_server.calls_for("review")[0].text
    assert "draft 2" in model_server.calls_for("review")[1].text


async def test_a_revised_draft_is_judged_again_and_keeps_the_last_score(
    service: Service, model_server: ModelServer
) -> None:
    low, high = judgment(**dict.fromkeys(("relevance", "consistency", "completeness"), 0.3)), judgment()
    model_server.on("judge", first_then(low, high))

    ada = await run_with_review(service, model_server, review("revision-needed"), review("approved"))

    assert ada["qualityScore"] == 90.0


async def test_without_revisions_a_draft_that_is_sent_back_stays_as_it_is(
    service: Service, model_server: ModelServer
) -> None:
    ada = await run_with_review(service, model_server, review("revision-needed", "Again."), maxRevisions=0)

    assert len(model_server.calls_for("work")) == 1
    assert (ada["retryCount"], ada["reviewStatus"], ada["stopReason"]) == (0, "revision-needed", "completed")


@pytest.mark.slow
async def test_revisions_end_when_they_are_used_up(service: Service, model_server: ModelServer) -> None:
    ada = await run_with_review(service, model_server, review("revision-needed", "Again."), maxRevisions=2)

    assert len(model_server.calls_for("work")) == len(model_server.calls_for("review")) == 3
    assert (ada["retryCount"], ada["reviewStatus"], ada["stopReason"]) == (2, "revision-needed", "completed")
    assert ada["output"]["text"] == "Third draft."


async def test_rejected_work_is_not_redone_and_reports_it(service: Service, model_server: ModelServer) -> None:
    ada = await run_with_review(service, model_server, review("rejected", "Not this."))

    assert len(model_server.calls_for("work")) == 1
    assert (ada["status"], ada["stopReason"], ada["reviewStatus"]) == ("completed", "rejected", "rejected")


async def test_a_reviewer_who_answers_garbage_decides_nothing(service: Service, model_server: ModelServer) -> None:
    ada = await run_with_review(service, model_server, "Looks fine to me!")

    assert len(model_server.calls_for("review")) == 2
    assert (ada["status"], ada["reviewStatus"], ada["retryCount"]) == ("completed", "pending", 0)
    assert ada["reviewNotes"] == "The head's answer was not a decision."


async def test_a_reviewer_whose_model_fails_decides_nothing(service: Service, model_server: ModelServer) -> None:
    ada = await run_with_review(service, model_server, fault(500))

    assert (ada["status"], ada["reviewStatus"]) == ("completed", "pending")
    assert ada["reviewNotes"].startswith("The head could not review:")
    assert "reviewedBy" not in ada


@pytest.mark.slow
@pytest.mark.parametrize(
    ("score", "reviews"),
    [(0.79, 1), (0.80, 0), (0.95, 0)],
)
async def test_the_quality_threshold_decides_on_a_review_that_is_not_required(
    service: Service, model_server: ModelServer, catalog: Catalog, score: float, reviews: int
) -> None:
    await catalog.edit_specialists(requiresReview=False, qualityThreshold=80)
    dimensions = ("confidence", "completeness", "relevance", "consistency", "creativity", "technical")
    model_server.on("plan", JUST_ADA)
    model_server.on("judge", judgment(**dict.fromkeys(dimensions, score)))

    done = await service.run_department(DEPARTMENT)

    assert len(model_server.calls_for("review")) == reviews
    status = "approved" if reviews else "pending"
    assert (await stored_tree(service, done["executionId"]))[ADA]["reviewStatus"] == status


@pytest.mark.slow
async def test_a_draft_that_was_sent_back_is_reviewed_again_however_well_it_scores(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_specialists(requiresReview=False)
    low = judgment(**dict.fromkeys(("relevance", "consistency", "completeness"), 0.3))
    model_server.on("judge", first_then(low, judgment()))

    ada = await run_with_review(service, model_server, review("revision-needed"), review("approved", "Good now."))

    assert (ada["reviewStatus"], ada["reviewNotes"], ada["retryCount"]) == ("approved", "Good now.", 1)


@pytest.mark.slow
async def test_work_without_a_score_is_reviewed_only_where_a_review_is_required(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_agent(ADA, requiresReview=False)
    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [])))
    model_server.on("judge", "No idea.")

    done = await service.run_department(DEPARTMENT)

    documents = await stored_tree(service, done["executionId"])
    assert [documents[agent]["reviewStatus"] for agent in (ADA, BOB)] == ["pending", "approved"]
    assert "qualityScore" not in documents[ADA]
    check = of_type([row["event"] for row in documents[ADA]["events"]], "quality-check")[0]
    assert (check["score"], check["dimensions"], check["gate"]["passed"]) == (None, {}, False)
    assert check["gate"]["issues"] == ["The judge's answer had no usable dimension."]
    assert done["output"]["report"]["gates"][0]["score"] is None


@pytest.mark.parametrize("odd", [97, -0.1, "NaN", "high", None, [0.9], True])
async def test_a_dimension_that_is_not_a_number_from_0_to_1_is_left_out_and_the_rest_normalized(
    service: Service, model_server: ModelServer, odd: object
) -> None:
    scores = judgment(creativity=odd if odd != "NaN" else "nan").replace('"nan"', "NaN")
    model_server.on("judge", scores)

    done = await service.run_agent(ADA)

    check = of_type(await service.events(done["executionId"]), "quality-check")[0]
    assert "creativity" not in check["dimensions"]
    assert len(check["dimensions"]) == 5
    assert (check["score"], done["qualityScore"]) == (0.9, 90.0)
    assert len(model_server.calls_for("judge")) == 2


async def test_a_judge_may_correct_its_answer_once(service: Service, model_server: ModelServer) -> None:
    model_server.on("judge", first_then("It is good.", judgment()))

    done = await service.run_agent(ADA)

    assert done["qualityScore"] == 90.0
    assert "does not match the schema" in notes_in(model_server.calls_for("judge")[1])
    assert done["tokenUsage"]["total"] == 3 * 15

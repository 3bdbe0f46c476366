"""Whether an output reaches the threshold of its agent, in answers, lists and reports."""

import pytest

from app.services.quality.gates import meets_threshold
from tests.fixtures.model_server import ModelServer, judgment
from tests.fixtures.runs import ADA, Catalog
from tests.fixtures.services import Service

BELOW = judgment(**dict.fromkeys(("confidence", "completeness", "relevance", "consistency"), 0.55))


@pytest.mark.parametrize(
    ("score", "threshold", "met"), [(80.0, 80.0, True), (79.99, 80.0, False), (None, 80.0, None), (80.0, None, None)]
)
def test_a_score_reaches_its_threshold_from_it_on(
    score: float | None, threshold: float | None, met: bool | None
) -> None:
    assert meets_threshold(score, threshold) is met


async def test_a_response_shows_whether_the_output_reached_the_agents_threshold(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    model_server.on("judge", BELOW)
    below = await service.run_agent(ADA)
    unscored = await service.run_agent(ADA, judge=False)
    await catalog.edit_agent(ADA, qualityThreshold=10)
    reached = await service.run_agent(ADA)

    [listed] = [
        one
        for one in (await service.http.get("/api/v1/executions", params={"agent": ADA, "limit": 3})).json()["items"]
        if one["executionId"] == below["executionId"]
    ]
    assert [one["meetsThreshold"] for one in (below, unscored, reached)] == [False, None, True]
    assert (listed["meetsThreshold"], listed["qualityGate"]) == (False, below["qualityGate"])
    assert unscored["qualityGate"] is None
    assert set(below["qualityGate"]) == {"name", "threshold", "passed", "score"}
    assert below["qualityGate"]["score"] == pytest.approx(below["qualityScore"] / 100, abs=1e-4)

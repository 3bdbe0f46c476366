"""Quality weights over the API: read, changed, used by the next run."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.services.quality.scores import DEFAULT_WEIGHTS, DEPARTMENT_WEIGHTS
from tests.fixtures.busy_writes import when_not_busy
from tests.fixtures.model_server import ModelServer, judgment
from tests.fixtures.services import Service, StartService
from tests.fixtures.waiting import wait_until

WEIGHTS = "/api/v1/quality/weights"
UNEVEN = {
    "confidence": 0.5,
    "completeness": 0.6,
    "relevance": 0.7,
    "consistency": 0.8,
    "creativity": 0.9,
    "technical": 1.0,
}
ONLY_TECHNICAL = dict.fromkeys(UNEVEN, 0) | {"technical": 3}
SPECIALISTS = {
    "story": "plot-specialist-001",
    "character": "arc-specialist-001",
    "visual": "cinematographer-001",
    "video": "editor-001",
    "audio": "composer-001",
    "production": "line-producer-001",
}
# 0.5, 0.6, 0.7, 0.8, 0.9, 1.0 by the report's weights, added up by hand
SCORES = {"story": 72.5, "character": 71.5, "visual": 76.0, "video": 78.0, "audio": 77.0, "production": 70.0}


async def put(service: Service, slug: str, weights: Any) -> int:  # noqa: ANN401 - any body
    """Set a department's weights; the status of the answer."""
    return (await service.http.put(f"{WEIGHTS}/{slug}", json=weights)).status_code


async def test_the_weights_are_the_report_s_until_they_are_changed(shared_service: Service) -> None:
    listed = (await shared_service.http.get(WEIGHTS)).json()

    assert listed == {"default": DEFAULT_WEIGHTS, **DEPARTMENT_WEIGHTS}
    assert next(iter(listed)) == "default"
    for slug, weights in listed.items():
        assert (await shared_service.http.get(f"{WEIGHTS}/{slug}")).json() == weights


@pytest.mark.parametrize("slug", list(SPECIALISTS))
async def test_the_stored_score_of_each_department_is_the_one_added_up_by_hand(
    shared_service: Service, model_server: ModelServer, slug: str
) -> None:
    model_server.on("judge", judgment(**UNEVEN))

    done = await shared_service.run_agent(SPECIALISTS[slug])

    stored = await shared_service.services.database["agent-executions"].find_one({"executionId": done["executionId"]})
    assert stored is not None
    assert (done["department"], done["qualityScore"], stored["qualityScore"]) == (slug, SCORES[slug], SCORES[slug])
    assert isinstance(stored["qualityScore"], float)


async def test_dimensions_that_cannot_be_used_are_left_out_of_the_stored_score(
    shared_service: Service, model_server: ModelServer
) -> None:
    odd = judgment(**(UNEVEN | {"technical": 97, "creativity": "high", "consistency": -0.1}))
    model_server.on("judge", odd.replace('"relevance": 0.7', '"relevance": NaN'))

    done = await shared_service.run_agent(SPECIALISTS["story"])

    # (0.10 of 0.5 and 0.25 of 0.6) of 0.35
    assert done["qualityScore"] == 57.14


@pytest.mark.slow
async def test_changed_weights_score_the_next_run_in_every_process_and_a_deletion_takes_them_back(
    start_service: StartService, model_server: ModelServer, models_config: Path
) -> None:
    model_server.on("judge", judgment(**UNEVEN))
    async with start_service(models_config=models_config) as first, start_service(models_config=models_config) as other:

        async def scores(expected: float) -> bool:
            return (await other.run_agent(SPECIALISTS["story"]))["qualityScore"] == expected

        assert await scores(72.5)

        answer = await first.http.put(f"{WEIGHTS}/story", json=ONLY_TECHNICAL)

        assert (answer.status_code, answer.json()) == (200, ONLY_TECHNICAL)
        assert (await first.run_agent(SPECIALISTS["story"]))["qualityScore"] == 100
        await wait_until(lambda: scores(100), seconds=2)
        assert (await other.http.get(WEIGHTS)).json()["story"] == ONLY_TECHNICAL

        assert (await first.http.delete(f"{WEIGHTS}/story")).status_code == 204
        assert (await first.http.delete(f"{WEIGHTS}/story")).status_code == 204
        assert (await first.http.get(f"{WEIGHTS}/story")).json() == DEPARTMENT_WEIGHTS["story"]
        await wait_until(lambda: scores(72.5), seconds=2)


@pytest.mark.slow
async def test_a_department_without_its_own_weights_uses_the_current_default(
    service: Service, model_server: ModelServer
) -> None:
    body = {"slug": "sound-lab", "name": "Sound lab", "description": "Listens."}
    assert (await service.http.post("/api/v1/departments", json=body)).status_code == 201
    assert (await service.http.get(f"{WEIGHTS}/sound-lab")).json() == DEFAULT_WEIGHTS

    assert await put(service, "default", ONLY_TECHNICAL) == 200

    assert (await service.http.get(f"{WEIGHTS}/sound-lab")).json() == ONLY_TECHNICAL
    assert (await service.http.get(f"{WEIGHTS}/story")).json() == DEPARTMENT_WEIGHTS["story"]
    assert await put(service, "sound-lab", UNEVEN) == 200
    listed = (await service.http.get(WEIGHTS)).json()
    assert (listed["default"], listed["sound-lab"]) == (ONLY_TECHNICAL, UNEVEN)
    model_server.on("judge", judgment(**UNEVEN))
    await service.http.patch(f"/api/v1/agents/{SPECIALISTS['audio']}", json={"department": "sound-lab"})
    assert (await service.run_agent(SPECIALISTS["audio"]))["qualityScore"] == 78.89  # 3.55 of 4.5


@pytest.mark.slow
async def test_weights_follow_their_department_to_another_slug_and_go_with_it(service: Service) -> None:
    departments = "/api/v1/departments"
    body = {"slug": "sound-lab", "name": "Sound lab", "description": "Listens."}
    stale = {"slug": "noise-lab", "weights": ONLY_TECHNICAL}
    await service.services.database["quality-weights"].insert_one(stale)  # its department was deleted by a CMS
    await service.http.post(departments, json=body)
    await put(service, "sound-lab", UNEVEN)

    renamed = await service.http.patch(f"{departments}/sound-lab", json={"slug": "noise-lab"})
    moved = (await service.http.get(WEIGHTS)).json()
    deleted = await service.http.delete(f"{departments}/noise-lab")
    gone = (await service.http.get(WEIGHTS)).json()
    await service.http.post(departments, json=body | {"slug": "noise-lab"})

    assert (renamed.status_code, deleted.status_code) == (200, 204)
    assert moved == {"default": DEFAULT_WEIGHTS, **DEPARTMENT_WEIGHTS, "noise-lab": UNEVEN}
    assert gone == {"default": DEFAULT_WEIGHTS, **DEPARTMENT_WEIGHTS}
    assert (await service.http.get(f"{WEIGHTS}/noise-lab")).json() == DEFAULT_WEIGHTS


@pytest.mark.slow
async def test_the_weights_of_a_department_that_a_cms_deleted_are_not_inherited(service: Service) -> None:
    await put(service, "story", UNEVEN)
    await service.services.database["departments"].delete_one({"slug": "story"})

    listed = (await service.http.get(WEIGHTS)).json()
    body = {"slug": "story", "name": "Story", "description": "Again."}
    await service.http.post("/api/v1/departments", json=body)

    assert "story" not in listed
    assert (await service.http.get(f"{WEIGHTS}/story")).json() == DEPARTMENT_WEIGHTS["story"]


@pytest.mark.slow
async def test_no_department_may_use_the_name_of_the_default_weights(service: Service) -> None:
    body = {"slug": "default", "name": "Default", "description": "Takes all."}

    created = await service.http.post("/api/v1/departments", json=body)
    renamed = await service.http.patch("/api/v1/departments/story", json={"slug": "default"})

    assert [answer.status_code for answer in (created, renamed)] == [422, 422]
    assert [answer.json()["errors"][0]["path"] for answer in (created, renamed)] == ["slug", "slug"]


@pytest.mark.slow
async def test_weights_are_written_only_over_those_that_if_match_names(service: Service) -> None:
    path = f"{WEIGHTS}/story"
    read = await service.http.get(path)
    first = {"If-Match": read.headers["ETag"]}

    changed = await service.http.put(path, json=UNEVEN, headers=first)
    stale = [
        await service.http.put(path, json=ONLY_TECHNICAL, headers=first),
        await service.http.delete(path, headers=first),
    ]
    now = await service.http.get(path)
    removed = await service.http.delete(path, headers={"If-Match": changed.headers["ETag"]})

    assert (changed.status_code, now.json(), removed.status_code) == (200, UNEVEN, 204)
    assert now.headers["ETag"] == changed.headers["ETag"] != read.headers["ETag"]
    assert {(answer.status_code, answer.json()["code"]) for answer in stale} == {(412, "edited-meanwhile")}
    assert (await service.http.put(path, json=UNEVEN, headers={"If-Match": "*"})).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("slug", ["story", "default"])
async def test_one_of_many_concurrent_writes_of_weights_with_one_etag_succeeds(service: Service, slug: str) -> None:
    path = f"{WEIGHTS}/{slug}"
    headers = {"If-Match": (await service.http.get(path)).headers["ETag"]}

    async def write(number: int, if_match: dict[str, str]) -> int:
        body = UNEVEN | {"technical": number}
        return (await when_not_busy(lambda: service.http.put(path, json=body, headers=if_match))).status_code

    answers = await asyncio.gather(*(write(number, headers) for number in range(1, 21)))
    without = await asyncio.gather(*(write(number, {}) for number in range(1, 21)))

    assert sorted(answers) == [200] + [412] * 19
    assert set(without) == {200}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {name: value for name, value in UNEVEN.items() if name != "technical"},
        UNEVEN | {"technical": -0.1},
        UNEVEN | {"technical": "0.1"},
        UNEVEN | {"technical": True},
        UNEVEN | {"technical": None},
        UNEVEN | {"technical": 1e300},
        UNEVEN | {"beauty": 1},
        dict.fromkeys(UNEVEN, 0),
    ],
)
async def test_weights_that_cannot_be_used_are_refused(shared_service: Service, wrong: dict[str, Any]) -> None:
    assert await put(shared_service, "story", wrong) == 422


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_there_are_no_weights_of_a_department_that_does_not_exist(shared_service: Service, method: str) -> None:
    body = UNEVEN if method == "PUT" else None

    answer = await shared_service.http.request(method, f"{WEIGHTS}/nowhere", json=body)

    assert (answer.status_code, answer.json()["code"]) == (404, "department-not-found")


@pytest.mark.slow
async def test_stored_weights_that_make_no_sense_are_passed_over(service: Service, model_server: ModelServer) -> None:
    await service.services.database["quality-weights"].insert_one({"slug": "story", "weights": {"technical": "much"}})
    model_server.on("judge", judgment(**UNEVEN))

    assert (await service.run_agent(SPECIALISTS["story"]))["qualityScore"] == 72.5


@pytest.mark.slow
async def test_a_gate_s_threshold_is_a_setting(
    start_service: StartService, model_server: ModelServer, models_config: Path
) -> None:
    model_server.on("judge", judgment(**dict.fromkeys(UNEVEN, 0.8)))
    async with start_service(models_config=models_config, specialist_gate=0.81, department_gate=0.8) as service:
        done = await service.run_department("audio")

    gates = done["output"]["report"]["gates"]
    found = {(gate["name"], gate["threshold"], gate["passed"]) for gate in gates}
    assert found == {("specialist", 0.81, False), ("department", 0.8, True)}

"""The caller, as the service sees it."""

import httpx
import pytest

from tests.fixtures.http_api import NewKey, assert_problem
from tests.fixtures.services import ADMIN_KEY, Service, StartService

ME = "/api/v1/me"


async def test_each_caller_sees_its_name_role_and_projects(
    anonymous: httpx.AsyncClient, new_key: NewKey, project: str
) -> None:
    bootstrap, runner, limited = {"X-API-Key": ADMIN_KEY}, await new_key("runner"), await new_key("viewer", project)

    told = [(await anonymous.get(ME, headers=headers)).json() for headers in (bootstrap, runner, limited, {})]

    assert told == [
        {"name": "ADMIN_API_KEY", "role": "admin", "projects": None},
        {"name": "of a test", "role": "runner", "projects": None},
        {"name": "of a test", "role": "viewer", "projects": [project]},
        {"name": "anonymous", "role": None, "projects": []},
    ]


@pytest.mark.slow
async def test_the_anonymous_viewer_is_one(start_service: StartService) -> None:
    async with start_service(anonymous_role="viewer") as service, httpx.AsyncClient(base_url=service.url) as client:
        told = (await client.get(ME)).json()

    assert told == {"name": "anonymous", "role": "viewer", "projects": None}


async def test_invalid_credentials_are_no_caller(shared_service: Service) -> None:
    answer = await shared_service.http.get(ME, headers={"Authorization": "Bearer not-a-key-of-this-service"})

    assert_problem(answer, 401, "not-authenticated")


async def test_a_key_that_an_older_release_stored_without_projects_is_for_all_projects(shared_service: Service) -> None:
    made = (await shared_service.http.post("/api/v1/api-keys", json={"name": "old", "role": "admin"})).json()
    keys = shared_service.services.database["api-keys"]
    await keys.update_one({"name": "old"}, {"$unset": {"allProjects": ""}})

    told = await shared_service.http.get(ME, headers={"Authorization": f"Bearer {made['key']}"})

    assert told.json()["projects"] is None


async def test_a_key_whose_last_project_was_taken_out_of_its_document_sees_none(shared_service: Service) -> None:
    body = {"name": "emptied", "role": "viewer", "projects": ["66f0a1b2c3d4e5f601234567"]}
    made = (await shared_service.http.post("/api/v1/api-keys", json=body)).json()
    keys = shared_service.services.database["api-keys"]
    await keys.update_one({"name": "emptied"}, {"$set": {"projects": []}})
    headers = {"Authorization": f"Bearer {made['key']}"}

    told = await shared_service.http.get(ME, headers=headers)
    seen = await shared_service.http.get("/api/v1/executions", headers=headers)

    assert told.json()["projects"] == []
    assert seen.json()["total"] == 0

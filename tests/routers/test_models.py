"""The models that are set up, over HTTP."""

from pathlib import Path

import httpx
import pytest
import yaml

from app.settings import CATALOG_MODELS
from tests.fixtures.gateways import entry
from tests.fixtures.http_api import NewKey, assert_problem, wrong_fields
from tests.fixtures.model_server import ModelServer
from tests.fixtures.services import Service, StartService


async def test_every_configured_name_is_listed_once_for_viewers(
    shared_service: Service, anonymous: httpx.AsyncClient, new_key: NewKey
) -> None:
    answer = await shared_service.http.get("/api/v1/models", headers=await new_key("viewer"))

    page = answer.json()
    assert [model["name"] for model in page["items"]] == list(CATALOG_MODELS)
    assert (page["total"], page["nextCursor"]) == (5, None)
    assert all(model["usable"] and not model["priceKnown"] for model in page["items"])
    assert "key-of-the-tests" not in answer.text
    assert_problem(await anonymous.get("/api/v1/models"), 401, "not-authenticated")


async def test_models_are_listed_in_pages(shared_service: Service) -> None:
    names: list[str] = []
    cursor: dict[str, str] = {}
    while not names or cursor:
        page = (await shared_service.http.get("/api/v1/models", params={"limit": 2, **cursor})).json()
        assert (page["total"], len(page["items"])) == (5, min(2, 5 - len(names)))
        names += [model["name"] for model in page["items"]]
        cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else {}

    assert names == list(CATALOG_MODELS)
    for path in ("models", "mcp-servers"):
        assert (await shared_service.http.get(f"/api/v1/{path}", params={"limit": 200})).status_code == 200
        for forged in ("forged", "Zm9yZ2Vk", "é"):
            answer = await shared_service.http.get(f"/api/v1/{path}", params={"cursor": forged})
            assert wrong_fields(answer) == ["cursor"]


@pytest.mark.parametrize("sort", ["name", "-name"])
async def test_models_are_sorted_by_their_names(shared_service: Service, sort: str) -> None:
    expected = sorted(CATALOG_MODELS, reverse=sort == "-name")
    params = {"limit": 3, "sort": sort}

    first = (await shared_service.http.get("/api/v1/models", params=params)).json()
    second = (await shared_service.http.get("/api/v1/models", params={**params, "cursor": first["nextCursor"]})).json()
    other_sort = await shared_service.http.get("/api/v1/models", params={"cursor": first["nextCursor"]})

    assert [model["name"] for model in (*first["items"], *second["items"])] == expected
    assert wrong_fields(other_sort) == ["cursor"]


@pytest.mark.slow
async def test_prices_are_shown_if_they_are_known(
    start_service: StartService, tmp_path: Path, model_server: ModelServer
) -> None:
    config = tmp_path / "priced.yaml"
    entries = [
        entry(model_server, "house/table", model="openai/gpt-4"),
        entry(model_server, "house/own", input_cost_per_token=0.5, output_cost_per_token=2),
        entry(model_server, "house/unknown"),
    ]
    config.write_text(yaml.safe_dump({"model_list": entries}))

    async with start_service(models_config=config, seed_on_start=False) as service:
        page = (await service.http.get("/api/v1/models")).json()

    told = {
        model["name"]: (model["priceKnown"], model["inputCostPerToken"], model["outputCostPerToken"])
        for model in page["items"]
    }
    assert told == {
        "house/table": (True, 3e-05, 6e-05),
        "house/own": (True, 0.5, 2),
        "house/unknown": (False, None, None),
    }


@pytest.mark.slow
async def test_without_a_configuration_the_source_says_that_it_is_the_demo_model(start_service: StartService) -> None:
    async with start_service(seed_on_start=False) as service:
        page = (await service.http.get("/api/v1/models")).json()

    assert "demo" in page["source"]
    assert all(model["usable"] for model in page["items"])

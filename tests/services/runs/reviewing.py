"""Reviewing finished runs over the public API."""

import httpx

from tests.fixtures.model_server import Json, ModelServer, plan_of
from tests.fixtures.runs import ADA, BOB, DEPARTMENT, stored_tree
from tests.fixtures.services import Service

TWO = plan_of((ADA, "Begin.", []), (BOB, "Continue.", [ADA]))
PERSON = {"kind": "person", "name": "ADMIN_API_KEY"}


async def send_review(service: Service, execution_id: str, status: str, notes: str | None = None) -> httpx.Response:
    """A person's review."""
    body = {"status": status} | ({"notes": notes} if notes is not None else {})
    return await service.http.post(f"/api/v1/executions/{execution_id}/review", json=body)


async def two_specialists(service: Service, model_server: ModelServer) -> tuple[Json, dict[str, str]]:
    """A finished run of Ada and Bob, and everybody's execution."""
    model_server.on("plan", TWO)
    done = await service.run_department(DEPARTMENT)
    ids = {agent: raw["executionId"] for agent, raw in (await stored_tree(service, done["executionId"])).items()}
    model_server.calls.clear()
    return done, ids

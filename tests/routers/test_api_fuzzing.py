"""Requests made up from the OpenAPI description: whatever arrives, the service answers as the description says.

Every boundary of every constraint is tried in each run, and `FUZZ_REQUESTS` random requests, the same ones each time.
"""

import asyncio
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from app.kit.canonical_json import canonical_json
from app.models.approval import Approval
from tests.fixtures.processes import bare_environment
from tests.fixtures.services import ADMIN_KEY, Service, StartService

FUZZER = Path(sys.executable).with_name("schemathesis")
FUZZ_REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "150"))
FUZZ_SECONDS = 240 + FUZZ_REQUESTS
"""Only a fuzzer that hangs takes this long."""
MAX_RANDOM_RUNS = 20
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
)
SPARES = ["spare1", "spare2", "spare3"]
REFUSALS = ["400", "404", "405", "409", "412", "413", "415", "422"]
SCOPES = [f"project:66f0a1b2c3d4e5f6012380{number:02}" for number in range(3)]
"""The scopes of budgets that no run falls under."""
SPARE_SCOPES = [f"project:66f0a1b2c3d4e5f6012381{number:02}" for number in range(20)]
CONFIGURATION = """
base-url = {url}
headers = {{ Authorization = {authorization} }}
continue-on-failure = true
request-timeout = 30
warnings = false

[generation]
deterministic = true
no-shrink = true
database = "none"
max-examples = {examples}
with-security-parameters = false

[phases]
stateful.enabled = false
coverage.unexpected-methods = ["PUT", "OPTIONS"]

[checks.negative_data_rejection]
expected-statuses = {refusals}

[dictionaries]
agents.values = ["plot-specialist-001", "story-head-001", "dialogue-specialist-001"]
departments.values = ["story", "character", "visual"]
tools.values = ["textStatistics", "scenePacing"]
executions.values = {finished}
running.values = {running}
failed.values = {failed}
doomed.values = {doomed}
approvals.values = {approvals}
digests.values = {digests}
spare.values = {spare}
scopes.values = {scopes}
spare_scopes.values = {spare_scopes}
code.values = ["(input) => input", "() => 1"]
tags.values = ["*"]

[parameters]
"path.agent_id" = {{ dictionary = "agents", probability = 0.8 }}
"path.slug" = {{ dictionary = "departments", probability = 0.8 }}
"path.scope" = {{ dictionary = "scopes", probability = 0.8 }}
"path.tool_name" = {{ dictionary = "tools", probability = 0.8 }}
"path.execution_id" = {{ dictionary = "executions", probability = 0.8 }}
"path.approval_id" = {{ dictionary = "approvals", probability = 0.9 }}
"body.inputDigest" = {{ dictionary = "digests", probability = 0.9 }}
"header.if-match" = {{ dictionary = "tags", probability = 0.5 }}
"body.department" = {{ dictionary = "departments", probability = 0.8 }}
"body.executeFunction" = {{ dictionary = "code", probability = 0.8 }}

[[operations]]
include-operation-id = ["deleteBudget"]
parameters."path.scope" = {{ dictionary = "spare_scopes", probability = 0.9 }}

[[operations]]
include-operation-id = ["deleteAgent", "deleteDepartment", "deleteCustomTool"]
parameters."path.agent_id" = {{ dictionary = "spare", probability = 0.9 }}
parameters."path.slug" = {{ dictionary = "spare", probability = 0.9 }}
parameters."path.tool_name" = {{ dictionary = "spare", probability = 0.9 }}

[[operations]]
include-operation-id = "cancelExecution"
parameters."path.execution_id" = {{ dictionary = "running", probability = 0.9 }}

[[operations]]
include-operation-id = "retryExecution"
parameters."path.execution_id" = {{ dictionary = "failed", probability = 0.9 }}

[[operations]]
include-operation-id = "deleteExecution"
parameters."path.execution_id" = {{ dictionary = "doomed", probability = 0.9 }}

[[operations]]
include-operation-id = "startAgentRun"
generation.max-examples = {runs}

[[operations]]
include-operation-id = "startDepartmentRun"
generation.max-examples = {runs}
phases.coverage.enabled = false
"""

UNEDITED_AGENT = "line-producer-001"
"""The fuzzer edits and deletes neither the agent nor its department, so that its runs can be retried."""
OF_EACH_KIND = 8
OTHER_EXECUTIONS: dict[str, dict[str, Any]] = {
    "running": {
        "status": "running",
        "completedAt": None,
        "lease": {"owner": "another process", "until": datetime(2100, 1, 1, tzinfo=UTC)},
    },
    "failed": {"status": "failed", "error": {"code": "model-unavailable", "message": "It was unavailable."}},
    "doomed": {},
}
"""The fields of the executions other than the finished one."""

Answers = Counter[tuple[str, int]]


@pytest.mark.slow
async def test_no_request_makes_the_service_break_its_own_description(
    start_service: StartService, models_config: Path, tmp_path: Path
) -> None:
    async with start_service(models_config=models_config) as service:
        document: dict[str, Any] = (await service.http.get("/openapi.json")).json()
        operations = operation_patterns(document)
        await create_spares(service)
        executions = await create_executions(service)
        approvals = await create_approvals(service, executions["running"])
        (tmp_path / "schemathesis.toml").write_text(configuration(service, executions, approvals, len(operations)))

        exit_code, printed = await fuzz(service, tmp_path)

        ready = await service.http.get("/readyz")
    answers = answers_in(tmp_path / "requests.har", operations)
    assert exit_code == 0, printed
    assert ready.status_code == 200
    assert answers.total() >= FUZZ_REQUESTS
    succeeded = {operation for operation, status in answers if status < 300}
    # The code of a sign-in link cannot be guessed.
    assert set(operations) - succeeded == {"signIn"}, "a fuzzer that never gets past the validation proves little"


async def create_spares(service: Service) -> None:
    """Departments, agents, tools and budgets that nothing refers to, for the fuzzer to delete."""
    for scope in (*SCOPES, *SPARE_SCOPES):
        answer = await service.http.put(f"/api/v1/budgets/{scope}", json={"maxTokens": 10**9, "period": "day"})
        assert answer.status_code in (200, 201), answer.text
    for name in SPARES:
        department = {"slug": name, "name": name, "description": "It has no agents."}
        tool = {"toolName": name, "displayName": name, "description": "It is unused."}
        code = {"inputSchema": {"type": "object"}, "executeFunction": "(input) => input"}
        agent = {"agentId": name, "name": name, "description": "It is unused.", "department": "story"}
        instructions = {"instructionsPrompt": "Do nothing."}
        bodies = {"departments": department, "custom-tools": tool | code, "agents": agent | instructions}
        for path, body in bodies.items():
            answer = await service.http.post(f"/api/v1/{path}", json=body)
            assert answer.status_code == 201, answer.text


async def create_executions(service: Service) -> dict[str, list[str]]:
    """Create a finished execution, one that another process seems to run, a failed one, and unused ones."""
    run = await service.run_agent(UNEDITED_AGENT)
    executions = service.services.database["agent-executions"]
    stored = await executions.find_one({"executionId": run["executionId"]})
    assert stored is not None
    found = {"finished": [run["executionId"]]}
    for kind, changes in OTHER_EXECUTIONS.items():
        found[kind] = [f"{kind}-{place}" for place in range(OF_EACH_KIND)]
        copies = [
            stored | changes | {"_id": ObjectId(), "executionId": one, "rootExecutionId": one} for one in found[kind]
        ]
        await executions.insert_many(copies)
    return found


async def create_approvals(service: Service, roots: list[str]) -> list[Approval]:
    """Create an approval that waits for a decision in each of some running trees."""
    now = datetime.now(UTC)
    approvals = [
        Approval(
            approval_id=f"appr_{place}",
            execution_id=root,
            root_execution_id=root,
            agent=UNEDITED_AGENT,
            department="production",
            tool_name="textStatistics",
            tool_call_id="call_1",
            input={"text": "One."},
            input_digest=hashlib.sha256(canonical_json({"text": "One."})).hexdigest(),
            requested_at=now,
            expires_at=now + timedelta(days=1),
        )
        for place, root in enumerate(roots * OF_EACH_KIND)
    ]
    collection = service.services.database[Approval.get_collection_name()]
    await collection.insert_many([approval.as_stored() for approval in approvals])
    return approvals


def configuration(
    service: Service, executions: Mapping[str, list[str]], approvals: list[Approval], operation_count: int
) -> str:
    """The fuzzer's configuration; a text in JSON is one in TOML too."""
    examples = max(3, FUZZ_REQUESTS // operation_count)
    return CONFIGURATION.format(
        url=json.dumps(service.url),
        authorization=json.dumps(f"Bearer {ADMIN_KEY}"),
        examples=examples,
        runs=min(examples, MAX_RANDOM_RUNS),
        refusals=json.dumps(REFUSALS),
        **{kind: json.dumps(names) for kind, names in executions.items()},
        approvals=json.dumps([approval.approval_id for approval in approvals]),
        digests=json.dumps(sorted({approval.input_digest for approval in approvals})),
        spare=json.dumps(SPARES),
        scopes=json.dumps(SCOPES),
        spare_scopes=json.dumps(SPARE_SCOPES),
    )


async def fuzz(service: Service, folder: Path) -> tuple[int, str]:
    """Run the fuzzer on a service to its end; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        str(FUZZER),
        *("--config-file", "schemathesis.toml", "run", f"{service.url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--report", "har", "--report-har-path", "requests.har", "--no-color"),
        cwd=folder,
        env=bare_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), FUZZ_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, printed.decode()


def operation_patterns(document: dict[str, Any]) -> dict[str, tuple[str, re.Pattern[str]]]:
    """The method of every operation and the pattern of its paths, by its id."""
    return {
        operation["operationId"]: (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def answers_in(report: Path, operations: dict[str, tuple[str, re.Pattern[str]]]) -> Answers:
    """How often each operation was answered with each status."""
    answers: Answers = Counter()
    for entry in json.loads(report.read_text(encoding="utf-8"))["log"]["entries"]:
        path = "/" + entry["request"]["url"].split("/", 3)[3].partition("?")[0]
        for name, (method, pattern) in operations.items():
            if entry["request"]["method"] == method and pattern.fullmatch(path):
                answers[name, entry["response"]["status"]] += 1
    return answers

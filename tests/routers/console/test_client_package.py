"""`clients/typescript` in Node: it starts, follows over broken connections, reviews, and reports errors."""

import asyncio
import json
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from scripts.npm_packages import wheel_directory
from tests.fixtures.services import ADMIN_KEY, Service

NODE = wheel_directory() / "bin" / "node"
PACKAGE = Path(__file__).parents[3] / "clients" / "typescript" / "src" / "index.js"
SCRIPT = Path(__file__).parents[2] / "fixtures" / "client_script.mjs"


pytestmark = pytest.mark.skipif(not NODE.exists(), reason="The wheel with Node is not installed.")


async def test_a_run_is_followed_without_a_gap_over_sockets_that_break(shared_service: Service, project: str) -> None:
    arguments = (SCRIPT, PACKAGE.as_uri(), shared_service.url, ADMIN_KEY, project)
    process = await asyncio.create_subprocess_exec(NODE, *arguments, stdout=PIPE, stderr=subprocess.PIPE)
    printed, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complaints.decode()

    seen = json.loads(printed)
    events = await shared_service.events(seen["executionId"])
    followed = [event["seq"] for event in events if "reviewer" not in event]
    assert (seen["status"], seen["seqs"]) == ("completed", followed)
    assert seen["sockets"] > 1
    assert seen["codes"] == [True, 422, ["prompt"], 401]
    assert events[-1]["type"] == "review-status"


def test_the_package_names_no_dependency() -> None:
    package = json.loads((PACKAGE.parents[1] / "package.json").read_text())

    assert "dependencies" not in package
    assert package["type"] == "module"
    assert not [
        path for path in PACKAGE.parent.glob("*.js") if "://" in path.read_text().replace("http://127.0.0.1", "")
    ]

"""The examples of the README and of the how-to guides work: they are run against a served service."""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.fixtures.model_server import ModelServer
from tests.fixtures.processes import COMMAND, INSTALLED, ROOT, ServeProcess, bare_environment, serving
from tests.fixtures.services import write_models_config

README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "how-to").glob("*.md")))
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PAGES = f"{README}\n{GUIDES}"
SHELL_EXAMPLES = [
    block for block in re.findall(r"```bash\n(.*?)```", PAGES, re.DOTALL) if "8000" in block or "run " in block
]
PYTHON_EXAMPLE = re.findall(r"```python\n(.*?)```", PAGES, re.DOTALL)[0]
MAKE_TARGETS = sorted(set(re.findall(r"\bmake ([a-z]+)\b", README)))


@pytest.fixture(scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory, shared_model_server: ModelServer
) -> AsyncGenerator[tuple[Path, ServeProcess]]:
    """A service in a directory of its own, as after `make serve`, with a local OpenAI-compatible server."""
    directory = tmp_path_factory.mktemp("readme")
    shared_model_server.reset()
    config = write_models_config(directory / "models.yaml", shared_model_server.url)
    async with serving(directory, "serve", INSTALLED, MODELS_CONFIG=str(config)) as server:
        yield directory, server


async def run_program(*command: str, cwd: Path) -> str:
    """Run a program to its end and give what it printed; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=bare_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, complaints = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaints.decode()
    return printed.decode()


async def run_shell(block: str, served: tuple[Path, ServeProcess]) -> str:
    """Run a shell example against the served service."""
    directory, server = served
    script = block.replace("http://127.0.0.1:8000", server.url).replace(".venv/bin/dynamic-agents", str(COMMAND))
    if "bin/dynamic-agents" in block:
        script = script.rstrip() + f" --url {server.url}"
    return await run_program("bash", "-euo", "pipefail", "-c", script, cwd=directory)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's shell examples need curl")
@pytest.mark.parametrize("block", SHELL_EXAMPLES, ids=lambda block: " ".join(block.split())[-40:])
async def test_a_shell_example_of_the_readme_works(block: str, served: tuple[Path, ServeProcess]) -> None:
    printed = await run_shell(block, served)

    assert '"code"' not in printed, printed
    if "wait=60" in block:
        assert json.loads(printed)["output"]["report"]["department"] == "story"


async def test_the_websocket_example_of_the_readme_follows_a_run_to_its_end(served: tuple[Path, ServeProcess]) -> None:
    directory, server = served
    script = PYTHON_EXAMPLE.replace("http://127.0.0.1:8000", server.url).replace(
        "ws://127.0.0.1:8000", server.url.replace("http", "ws", 1)
    )
    assert "8000" not in script

    printed = await run_program(sys.executable, "-c", script, cwd=directory)

    lines = printed.splitlines()
    assert lines[0].startswith("None subscribed")
    assert [line.split()[0] for line in lines[1:-1]] == [str(seq) for seq in range(1, len(lines) - 1)]
    assert lines[-1].startswith("None execution-end")


async def test_each_model_request_of_the_examples_has_a_purpose(
    served: tuple[Path, ServeProcess], shared_model_server: ModelServer
) -> None:
    waiting = next(block for block in SHELL_EXAMPLES if "wait=60" in block)

    printed = await run_shell(waiting, served)

    report = json.loads(printed)["output"]["report"]
    tree = {json.loads(printed)["executionId"], *(row["executionId"] for row in report["specialists"])}
    calls = [call for call in shared_model_server.calls if call.execution_id in tree]
    assert {call.execution_id for call in calls} == tree
    assert {call.purpose for call in calls} == {"plan", "work", "judge", "review", "report"}
    assert all(call.purpose and call.execution_id for call in shared_model_server.calls)


async def test_every_make_target_of_the_readme_exists() -> None:
    printed = await run_program("make", "-C", str(ROOT), "help", cwd=ROOT)

    assert set(MAKE_TARGETS) <= {line.split()[0] for line in printed.splitlines() if line}


def test_the_readme_is_short_and_shows_a_run() -> None:
    assert len(README.splitlines()) <= 150
    assert (ROOT / "docs" / "images" / "run.svg").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial needs curl")
async def test_the_tutorial_works_from_beginning_to_end(served: tuple[Path, ServeProcess]) -> None:
    script = "\n".join(re.findall(r"```bash\n(.*?)```", TUTORIAL, re.DOTALL))

    printed = await run_shell(script, served)

    assert "completed " in printed
    assert '"fits":true' in printed
    assert '"reviewStatus":"approved"' in printed

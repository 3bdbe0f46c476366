"""The wheel works without the checkout: installed into a clean environment, it serves and completes a run."""

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from tests.fixtures.processes import ROOT, Process, Start, bare_environment, finish, serving
from tests.fixtures.services import PROJECT

INSTALL_SECONDS = 600
ADMIN_KEY = "a-bootstrap-admin-key"


async def must_succeed(*command: str | Path, cwd: Path) -> None:
    """Run a command to its end; a failure shows what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), INSTALL_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed.decode()


def locked_versions() -> str:
    """The versions of the lock without their hashes, as pip takes them for constraints."""
    lock = (ROOT / "requirements" / "local.lock").read_text()
    return "\n".join(re.findall(r"^(?!#)([^\s#].*?)(?: \\)?$", lock, re.MULTILINE))


def command_in(environment: Path) -> Start:
    """A way to start the `dynamic-agents` of a virtual environment."""

    async def start(*arguments: str, cwd: Path, stderr: int, environment: Mapping[str, str]) -> Process:
        return await asyncio.create_subprocess_exec(
            executable, *arguments, cwd=cwd, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=stderr
        )

    executable = str(environment / "bin" / "dynamic-agents")
    return start


@pytest.fixture(scope="module")
async def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    directory = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory)
    await must_succeed(*build, cwd=ROOT)
    (found,) = directory.glob("*.whl")
    return found


def test_the_wheel_holds_every_seed_and_nothing_but_the_package(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    seeds = {path.relative_to(ROOT) for path in (ROOT / "seeds").rglob("*") if path.is_file()}

    assert {str("app" / path) for path in seeds} == {name for name in names if name.startswith("app/seeds/")}
    assert {name.split("/")[0] for name in names} == {"app"}


def test_the_metadata_names_license_authors_and_readme(wheel: Path) -> None:
    archive = ZipFile(wheel)
    (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(archive.read(path).decode())

    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Author"] == "Dynamic Agents contributors"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Programming Language :: Python :: 3.14" in metadata.get_all("Classifier", [])
    assert path.replace("METADATA", "licenses/LICENSE") in archive.namelist()


@pytest.mark.long
async def test_the_installed_wheel_serves_and_completes_a_run_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    environment, elsewhere, constraints = (tmp_path / name for name in ("environment", "elsewhere", "constraints.txt"))
    elsewhere.mkdir()
    constraints.write_text(locked_versions())
    await must_succeed(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    pip = (environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    await must_succeed(*pip, "--constraint", constraints, f"{wheel}[embedded]", cwd=tmp_path)
    installed, headers = command_in(environment), {"X-API-Key": ADMIN_KEY}
    variables = {"ADMIN_API_KEY": ADMIN_KEY}

    doctor = await finish(installed, "doctor", cwd=elsewhere, environment=bare_environment(**variables))
    async with (
        serving(elsewhere, "serve", installed, **variables) as server,
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http,
    ):
        departments = (await http.get("/api/v1/departments")).json()
        started = await http.post(
            "/api/v1/departments/audio/runs",
            json={"prompt": "Two lines.", "project": PROJECT},
            headers={"Prefer": "wait=60"},
        )

    assert doctor[0] == 0, doctor[1]
    assert len(departments) > 0
    assert started.status_code == 200, started.text
    assert started.json()["status"] == "completed"

"""Test the packages that the service reaches into at their newest releases, one at a time, in a scratch environment.

Each is tried within the bounds of `pyproject.toml`, which an installation without the lock may get, and beyond them,
where the next upgrade leads. Only a failure within the bounds makes the exit code 1.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "dev.lock"

SEAMS = {
    "aiohttp": ("tests/services/llm/litellm_patches/test_direct_http.py",),
    "beanie": (
        "tests/database/test_database.py",
        "tests/database/test_indexes.py",
        "tests/database/test_transactions.py",
    ),
    "fastapi": (
        "tests/routers/docs/test_openapi.py",
        "tests/routers/http/test_strict_input.py",
        "tests/routers/http/test_problems.py",
        "tests/telemetry/test_traces.py",
    ),
    "httptools": ("tests/security/test_requests.py",),
    "litellm": ("tests/services/llm",),
    "mcp": ("tests/services/tools/mcp/test_mcp_calls.py", "tests/services/tools/mcp/test_mcp_servers.py"),
    "mcp-types": ("tests/services/tools/mcp/test_mcp_calls.py", "tests/services/tools/mcp/test_mcp_listing.py"),
    "pymongo": (
        "tests/database/test_pymongo_patch.py",
        "tests/database/test_database.py",
        "tests/events/log/test_tree_log.py",
    ),
    "quickjs-rs": ("tests/services/tools/sandbox/test_engine.py", "tests/services/tools/sandbox/test_globals.py"),
    "saq": ("tests/services/runs/engine/test_queue.py",),
    "starlette": ("tests/routers/http/test_problems.py", "tests/routers/sockets/test_event_sockets.py"),
    "uvicorn": ("tests/security/test_requests.py", "tests/security/test_frames.py"),
    "wasmtime": ("tests/services/tools/sandbox/test_engine.py", "tests/services/tools/sandbox/test_sandbox_hostile.py"),
    "websockets": ("tests/security/test_frames.py", "tests/routers/sockets/test_event_sockets.py"),
}
"""The bounded packages, and the tests that fail when one moves what the service touches."""


class Outcome(NamedTuple):
    """The outcome of the checks with one release of one package."""

    package: str
    scope: str
    version: str
    result: str


class Scratch:
    """A virtual environment with the locked packages, which one of them leaves for a while."""

    def __init__(self, directory: Path) -> None:
        self._python = str(directory / "bin" / "python")
        subprocess.run((sys.executable, "-m", "venv", str(directory)), check=True)
        self.restore()
        self._run("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run((self._python, *arguments), cwd=ROOT, text=True, capture_output=True, check=False)
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        return done

    def restore(self) -> None:
        """Install the locked versions again."""
        self._run(
            "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(LOCK)
        ).check_returncode()

    def upgrade(self, requirement: str) -> bool:
        """Install the newest release that fits a requirement, with what it needs; whether there is one."""
        return self._run("-m", "pip", "install", "--quiet", "--upgrade", requirement).returncode == 0

    def version(self, package: str) -> str:
        """The installed version."""
        code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
        return self._run("-c", code, package).stdout.strip()

    def passes(self, tests: tuple[str, ...]) -> bool:
        """Whether tests pass."""
        return self._run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests).returncode == 0


def bounded_requirements() -> dict[str, str]:
    """The requirement of each package of the project, by its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[^\w.-]", each, maxsplit=1)[0]: each for each in project["dependencies"]}


def attempt(scratch: Scratch, package: str, scope: str, requirement: str, known: set[str]) -> Outcome:
    """Upgrade one package and run its tests, unless its version was tried before; then restore the lock."""
    if not scratch.upgrade(requirement):
        return Outcome(package, scope, requirement, "not installable")
    version = scratch.version(package)
    result = "same release" if version in known else "passed" if scratch.passes(SEAMS[package]) else "failed"
    known.add(version)
    scratch.restore()
    return Outcome(package, scope, version, result)


def main() -> int:
    """Try each package and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="the packages to try; by default all")
    packages = parser.parse_args().packages or list(SEAMS)
    if unknown := set(packages) - SEAMS.keys():
        parser.error(f"unknown package {', '.join(sorted(unknown))}; known: {', '.join(SEAMS)}")
    requirements, outcomes = bounded_requirements(), list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="canary-") as directory:
        scratch = Scratch(Path(directory))
        for package in packages:
            known = {scratch.version(package)}
            for scope, requirement in (("within bounds", requirements[package]), ("beyond bounds", package)):
                outcomes.append(attempt(scratch, package, scope, requirement, known))
                print("{:<12} {:<14} {:<14} {}".format(*outcomes[-1]), flush=True)
    return int(any(each.scope == "within bounds" and each.result in ("failed", "not installable") for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())

"""Hostile tools: every limit holds, nothing leaks, and the sandbox answers the next call."""

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import JsonValue

from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox
from tests.fixtures.sandboxes import Call, Fail, failure_of, resident_bytes, running, until
from tests.fixtures.web_server import WebServer, plain, web_server
from tests.services.tools.sandbox.hostile import RESULT, SNIPPETS
from tests.services.tools.sandbox.lag import measured_lag

# Compares a hundred billion characters in one step of the engine, which cannot be interrupted there.
UNINTERRUPTIBLE = "() => 'a'.repeat(5e6).indexOf('a'.repeat(2e6) + 'b')"

# Pipes to the service, its own event loop, the engine's code in memory, and the kernel's account of its memory.
OWN_FILES = ("pipe:", "socket:", "anon_inode:", "/dev/null", "/memfd:wasm", "/proc/")


HASTY_SECONDS = 0.3
ALLOWED_MS = (HASTY_SECONDS + 0.5) * 1000
# A call that came late while all ran at once, on a machine that may be busy with other things, is made again alone.
ATTEMPTS_ALONE = 5
MAX_LAG_SECONDS = 0.05

BYSTANDER = """
import asyncio, sys
from tests.services.tools.sandbox.lag import measured_lag

async def main():
    stop = asyncio.Event()
    lag = asyncio.create_task(measured_lag(stop))
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    print(await lag)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Canary:
    """A secret in the places where tools must not get."""

    secret: str
    file: Path
    web: WebServer


@pytest.fixture(scope="module")
async def hasty() -> AsyncGenerator[ToolSandbox]:
    async with running(ToolSandbox(timeout_seconds=HASTY_SECONDS, memory_mb=64)) as sandbox:
        yield sandbox


@pytest.fixture
async def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Canary]:
    """A secret in the environment, in a file, in the service's memory and behind a port of the loopback."""
    secret = secrets.token_hex(16)
    monkeypatch.setenv("CANARY", secret)
    file = tmp_path / "canary"
    file.write_text(secret)
    async with web_server() as web:
        web.answers["/"] = plain(secret.encode())
        yield Canary(secret, file, web)


async def ending(sandbox: ToolSandbox, code: str, value: JsonValue) -> tuple[str, str, float]:
    """The end of a call: its code or `result`, all messages, and its duration in milliseconds."""
    try:
        outcome = await sandbox.run(ToolInvocation(code, value, {}))
    except ToolFailed as error:
        return error.code, f"{error.message} {error.console}", error.duration_ms or 0
    return RESULT, f"{outcome.output} {outcome.console}", outcome.duration_ms


async def is_late_alone(sandbox: ToolSandbox, code: str, value: JsonValue) -> bool:
    """Whether a call is late each time, also with nothing of the sandbox beside it."""
    for _ in range(ATTEMPTS_ALONE):
        *_, milliseconds = await ending(sandbox, code, value)
        if milliseconds < ALLOWED_MS:
            return False
    return True


@contextlib.asynccontextmanager
async def lags() -> AsyncGenerator[list[float]]:
    """The event loop's lag meanwhile, and that of a process that has nothing to do with tools, in seconds."""
    found: list[float] = []
    bystander = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BYSTANDER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    stop = asyncio.Event()
    own = asyncio.create_task(measured_lag(stop))
    try:
        yield found
    finally:
        stop.set()
        printed, _ = await bystander.communicate(b"")
        found += [await own, float(printed)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_every_hostile_tool_ends_as_it_should_and_touches_nothing(hasty: ToolSandbox, canary: Canary) -> None:
    value: JsonValue = {"file": str(canary.file)}
    before = resident_bytes(os.getpid())
    codes = {name: code.replace("{port}", str(canary.web.port)) for name, (code, _) in SNIPPETS.items()}

    async with lags() as measured:
        ended = await asyncio.gather(*(ending(hasty, code, value) for code in codes.values()))

    endings = dict(zip(codes, ended, strict=True))
    assert len(SNIPPETS) >= 60
    unexpected = {name: end[:2] for name, end in endings.items() if end[0] not in SNIPPETS[name][1]}
    assert unexpected == {}
    late = [name for name, (*_, milliseconds) in endings.items() if milliseconds >= ALLOWED_MS]
    assert [name for name in late if await is_late_alone(hasty, codes[name], value)] == []
    assert not [name for name, (_, reported, _) in endings.items() if canary.secret in reported]
    assert (canary.file.read_text(), canary.web.connections) == (canary.secret, 0)
    assert (await hasty.run(ToolInvocation("() => 'next'", None, {}))).output == "next"
    assert resident_bytes(os.getpid()) - before < 64 * 1024 * 1024
    own, bystander = measured
    assert own < MAX_LAG_SECONDS + bystander, "the lag of the loop itself, beside what a busy machine does to anybody"


@pytest.mark.slow
async def test_code_that_the_engine_cannot_interrupt_is_killed_and_the_worker_replaced(hasty: ToolSandbox) -> None:
    await until(lambda: len(hasty.worker_pids) == 2)
    before = set(hasty.worker_pids)

    failure = await failure_of(hasty, UNINTERRUPTIBLE)

    assert (failure.code, failure.message) == ("tool-timeout", "The tool did not finish in time and was killed.")
    assert (await hasty.run(ToolInvocation("() => 'next'", None, {}))).output == "next"
    await until(lambda: len(hasty.worker_pids) == 2)
    assert len(before & set(hasty.worker_pids)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_tool_that_hides_its_hunger_never_gets_past_its_memory(hasty: ToolSandbox) -> None:
    code = "() => { const all = []; for (;;) { try { all.push(new Uint8Array(1 << 20).fill(1)) } catch {} } }"

    await until(lambda: len(hasty.worker_pids) == 2)
    pids = hasty.worker_pids
    call = asyncio.create_task(failure_of(hasty, code))
    peaks: list[int] = []
    while not call.done():
        peaks += [resident_bytes(pid) for pid in pids]
        await asyncio.wait([call], timeout=0.02)

    failure = await call
    assert failure.code in {"tool-timeout", "tool-memory-exceeded"}
    assert 60 << 20 < (failure.memory_bytes or 0) <= 72 << 20, "the engine stops before the kernel must"
    assert max(peaks) < 200 * 1024 * 1024


@pytest.mark.parametrize(
    "ending",
    [
        "throw new Error('x')",
        "for (;;) {}",
        "return (function deeper() { return deeper() + 1 })()",
        "const all = []; for (;;) all.push(new Uint8Array(1 << 20))",
        "return new Promise(() => {})",
        "return 'x'.repeat(1e6)",
        "return 1n",
    ],
)
async def test_console_lines_are_reported_however_a_tool_ends(hasty: ToolSandbox, ending: str) -> None:
    failure = await failure_of(hasty, f"() => {{ console.log('half', '\ud800'); {ending} }}")

    assert failure.console == ["half \ufffd"]


async def test_a_budget_of_memory_can_be_used(call: Call) -> None:
    assert await call("() => new Uint8Array(50 << 20).fill(1).length") == 50 << 20


@pytest.mark.parametrize("code", ["() => new Promise(() => {})", "async () => await { then() {} }"])
async def test_a_promise_that_never_settles_is_noticed_at_once(fail: Fail, code: str) -> None:
    started = time.monotonic()

    assert (await fail(code)).code == "tool-never-settled"
    assert time.monotonic() - started < 5, "half the time it might have taken"


@pytest.mark.parametrize(
    "code",
    [
        "async () => { for (let i = 0; i < 120000; i++) await 0; return 'done' }",
        "() => new Promise((end) => { let i = 0;"
        " const again = () => (++i < 500000 ? queueMicrotask(again) : end('done')); again() })",
        "() => new Promise((end) => { let i = 0;"
        " const again = () => (++i < 100000 ? queueMicrotask(again) : setTimeout(end, 5, 'done')); again() })",
    ],
    ids=["await", "quick reactions", "just as many, then a timer"],
)
async def test_a_tool_may_run_more_reactions_than_the_engine_does_at_a_go(call: Call, code: str) -> None:
    assert await call(code) == "done"


@pytest.mark.parametrize(
    "code",
    [
        "() => { const deeper = () => deeper() + 1; return deeper() }",
        "() => { const deeper = () => { try { deeper() } catch { deeper() } }; deeper() }",
        "() => { let deep = []; for (let i = 0; i < 20000; i++) deep = [deep]; return deep }",
    ],
)
async def test_endless_recursion_is_reported_as_such(call: Call, fail: Fail, code: str) -> None:
    assert (await fail(code)).code == "tool-recursion"
    assert await call("() => 'next'") == "next"


async def test_ordinary_recursion_works(call: Call) -> None:
    assert await call("() => { const sum = n => n === 0 ? 0 : n + sum(n - 1); return sum(500) }") == 125250


async def test_nothing_of_a_call_is_left_for_the_next(call: Call) -> None:
    polluter = """() => {
      globalThis.left = 1; Array.prototype.left = 1; Object.prototype.left = 1; Promise.prototype.left = 1;
      JSON.parse = JSON.stringify = () => '"forged"'; Array.prototype.map = null; console.log = null;
    }"""
    probe = "() => [typeof left, typeof [].left, typeof ({}).left, typeof Promise.resolve().left, [1].map(n => n + 1)]"

    for _ in range(4):
        assert await call(polluter) is None
        assert await call(probe) == ["undefined"] * 4 + [[2]]


@pytest.mark.parametrize(
    "tampering",
    [
        "JSON.stringify = () => 'forged'",
        "Object.prototype.toJSON = String.prototype.toJSON = Array.prototype.toJSON = () => { throw 1 }",
        "String.prototype.slice = Function.prototype.call = Function.prototype.bind = () => 'forged'",
        "Promise.prototype.then = () => 'forged'; globalThis.Promise = null",
        "Object.prototype.then = undefined; Object.prototype.value = Object.prototype.phase = 'forged'",
        "Object.defineProperty(Array.prototype, '0', { set() { throw 1 } }); console.log('x', 'y')",
        "Object.freeze(globalThis); Object.freeze(Object.prototype)",
    ],
)
async def test_a_tool_that_changes_the_language_changes_nothing_around_it(call: Call, tampering: str) -> None:
    assert await call(f"() => {{ {tampering}; return 'result' }}") == "result"


async def test_a_tool_cannot_forge_the_answer_of_the_sandbox(call: Call) -> None:
    forged = '{"output":"1","console":[]}'

    assert await call(f"() => '{forged}'") == forged


@pytest.mark.parametrize("name", ["require", "process", "fetch", "std", "os", "print", "scriptArgs", "request"])
async def test_a_tool_sees_no_host(call: Call, name: str) -> None:
    assert await call(f"() => typeof {name} + typeof globalThis['{name}']") == "undefinedundefined"


@pytest.mark.parametrize("module", ["os", "std", "fs", "file:///etc/passwd", "/etc/passwd", "./worker.py"])
async def test_a_tool_can_import_nothing(fail: Fail, module: str) -> None:
    assert (await fail(f"() => import('{module}')")).code == "tool-error"


async def test_constructors_lead_no_further_than_the_engine(call: Call) -> None:
    code = "() => [].map.constructor('return typeof process + typeof require + Object.keys(this).join()')()"

    assert await call(code) == "undefinedundefinedperformance"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_worker_has_no_environment_no_files_and_no_place(sandbox: ToolSandbox) -> None:
    await until(lambda: len(sandbox.worker_pids) == 2)
    for pid in sandbox.worker_pids:
        place = Path(f"/proc/{pid}")
        targets = [os.readlink(link) for link in (place / "fd").iterdir()]
        limits = dict(line.split("  ", 1) for line in (place / "limits").read_text().splitlines())

        assert (place / "environ").read_bytes() == b""
        assert os.readlink(place / "cwd") == "/"
        assert os.getsid(pid) == pid
        assert not [to for to in targets if not to.startswith(OWN_FILES)]
        assert limits["Max file size"].split()[:2] == ["0", "0"]
        assert limits["Max core file size"].split()[:2] == ["0", "0"]
        assert limits["Max open files"].split()[:2] == ["32", "32"]
        assert limits["Max data size"].split()[0] != "unlimited"

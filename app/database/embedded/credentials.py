"""The credentials of the embedded MongoDB, which keep other users of the machine out.

Two files in `DATA_DIR`, readable by their owner only: `mongod.key`, which mongod and the service share to set up the
replica set, and `mongod.password`, with which the service (or its operator) logs in as `dynamic-agents`.
"""

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

USER = "dynamic-agents"
_SYSTEM_USER = "__system"
_KEY_BYTES = 48
_PASSWORD_BYTES = 32
_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700
_USER_EXISTS = 51003


@dataclass(frozen=True)
class MongodCredentials:
    """The key and password files of one `DATA_DIR`."""

    data_dir: Path

    @property
    def key_file(self) -> Path:
        """The file for mongod's `--keyFile`."""
        return self.data_dir / "mongod.key"

    @property
    def password_file(self) -> Path:
        """The file that holds the password of `dynamic-agents`."""
        return self.data_dir / "mongod.password"

    def prepare(self) -> None:
        """Create missing files, and close the directory and both files to other users.

        Raises:
            OSError: a file cannot be read or written by this user.
        """
        close_directory(self.data_dir)
        for path, size in ((self.key_file, _KEY_BYTES), (self.password_file, _PASSWORD_BYTES)):
            if not path.exists() or not path.read_text().strip():
                write_private(path, secrets.token_hex(size) + "\n")
            elif stat.S_IMODE(path.stat().st_mode) != _PRIVATE_FILE:
                path.chmod(_PRIVATE_FILE)

    def uri(self, port: int) -> str:
        """Return the connection string of the mongod on a loopback port, including the password.

        Raises:
            OSError: the password file cannot be read.
        """
        password = quote(self.password_file.read_text().strip(), safe="")
        return f"mongodb://{USER}:{password}@127.0.0.1:{port}/?directConnection=true&authSource=admin"

    def system_login(self) -> dict[str, Any]:
        """Return client options that log in as the replica set itself, which does not need a user in the database."""
        return {
            "username": _SYSTEM_USER,
            "password": self.key_file.read_text().strip(),
            "authSource": "local",
            "authMechanism": "SCRAM-SHA-256",
        }

    async def create_user(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        """Create or update the user `dynamic-agents` with the password of the file, over a system login to the primary.

        Raises:
            PyMongoError: mongod refuses or does not answer.
        """
        password = self.password_file.read_text().strip()
        concern = {"w": "majority"}
        try:
            await client.admin.command("createUser", USER, pwd=password, roles=["root"], writeConcern=concern)
        except OperationFailure as error:
            if error.code != _USER_EXISTS:
                raise
            await client.admin.command("updateUser", USER, pwd=password, roles=["root"], writeConcern=concern)


def close_directory(path: Path) -> None:
    """Close a directory to other users, unless it is meant to be shared (`/tmp`, a home)."""
    found = path.stat()
    shared = found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX or path == Path.home()
    if not shared and found.st_mode & 0o077:
        path.chmod(_PRIVATE_DIRECTORY)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, even during the write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, _PRIVATE_FILE)
        file.write(text)

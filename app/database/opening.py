"""Opening of the database: the one in `MONGODB_URI`, else the embedded one."""

import contextlib
import fcntl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from app.database.connection import Database, bind_documents, connect
from app.database.embedded.credentials import MongodCredentials
from app.database.embedded.mongod import EmbeddedMongod
from app.database.embedded.supervisor import running_mongod
from app.settings import Settings


@asynccontextmanager
async def open_database(settings: Settings, *, share: bool = False) -> AsyncGenerator[Database]:
    """Open the database, with bound documents and built indexes, while the context lasts.

    With `share`, a command uses the embedded database of a service that runs on the same `DATA_DIR`, if any.

    Raises:
        StartupError: the database cannot be opened; the message says why and what to do.
    """
    async with contextlib.AsyncExitStack() as stack:
        if settings.mongodb_uri is not None:
            uri = settings.mongodb_uri.get_secret_value()
        elif share and (running := running_mongod_uri(settings.data_dir)):
            uri = running
        else:
            mongod = EmbeddedMongod(settings.data_dir, binary=settings.mongod_binary)
            uri = await stack.enter_async_context(running_mongod(mongod))
        database = await connect(uri)
        stack.push_async_callback(database.client.close)
        await bind_documents(database)
        yield database


def running_mongod_uri(data_dir: Path) -> str | None:
    """Return the URI of the embedded database of the service that currently uses `DATA_DIR`, or `None`."""
    try:
        with (data_dir / "service.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        port = (data_dir / "mongod.port").read_text().strip()
        return MongodCredentials(data_dir).uri(int(port))
    except OSError:
        pass
    return None

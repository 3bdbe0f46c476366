"""A database for the audit tests, without a service."""

from collections.abc import AsyncGenerator

import pytest
from beanie import init_beanie

from app.database.connection import DOCUMENTS, Database, build_indexes, connect
from app.models.audit import AuditEntry, AuditMark


@pytest.fixture
async def database(database_uri: str) -> AsyncGenerator[Database]:
    """A database of the test's own, with the indexes of the audit log alone."""
    opened = await connect(database_uri)
    await init_beanie(database=opened, document_models=list(DOCUMENTS), skip_indexes=True)
    for document in (AuditMark, AuditEntry):
        await build_indexes(opened, document)
    yield opened
    await opened.client.drop_database(opened.name)
    await opened.client.close()

"""Typed handles of the collections."""

from beanie import Document
from pymongo.asynchronous.collection import AsyncCollection

from app.database.connection import Database, Raw

Collection = AsyncCollection[Raw]


def collection_of(database: Database, document: type[Document]) -> Collection:
    """Return the collection of a document class, which reads and writes raw documents."""
    return database[document.get_collection_name()]

"""The database's clock, which times leases, retention and checks because this machine's may be wrong."""

from datetime import UTC, datetime

from app.database.connection import Database, Raw


async def database_time(database: Database) -> datetime:
    """Return the current time of the database, in UTC.

    The driver returns times in answers to commands without a time zone, whatever the database's options say.

    Raises:
        PyMongoError: the database is unavailable.
    """
    hello: Raw = await database.command("hello")
    now: datetime = hello["localTime"]
    return now.replace(tzinfo=UTC)

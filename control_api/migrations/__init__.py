"""Schema migrations: `upgrade()` brings a database to the newest revision under an advisory lock.

What it does not know: the application. New revision: `PYTHONPATH=. python -m control_api.migrations "what changes"`.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from control_api.kit.db import sqlalchemy_url
from control_api.kit.leader import lock_number

_LOCK = "foundry-migrations"


def configuration(connection: Connection) -> Config:
    """Alembic's configuration bound to an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate up. Blocking: call it in a thread. Two processes at once are safe, the second finds nothing to do."""
    engine = create_engine(sqlalchemy_url(database_url))
    lock = {"number": lock_number(_LOCK)}
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:number)"), lock)
            connection.commit()
            command.upgrade(configuration(connection), revision)
            connection.commit()
    finally:
        engine.dispose()  # closing the connection frees the lock

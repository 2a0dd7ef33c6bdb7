"""Migrations: up from nothing, twice at once, down again, and equal to the models."""

from __future__ import annotations

import asyncio

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from control_api.kit.db import sqlalchemy_url
from control_api.migrations import configuration, upgrade
from control_api.models import Base
from tests.support.postgres import Server

pytestmark = pytest.mark.postgres


async def test_two_processes_migrate_an_empty_database_to_what_the_models_say(
    postgres_server: Server,
) -> None:
    with postgres_server.database(template=None) as url:
        await asyncio.gather(asyncio.to_thread(upgrade, url), asyncio.to_thread(upgrade, url))
        engine = create_engine(sqlalchemy_url(url))
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []
            assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
            connection.rollback()
            command.downgrade(configuration(connection), "base")
            connection.commit()
            assert inspect(connection).get_table_names() == ["alembic_version"]
        engine.dispose()

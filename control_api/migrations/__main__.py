"""Write a new revision from the difference between the models and the configured database.

PYTHONPATH=. python -m control_api.migrations "add budgets"
"""

from __future__ import annotations

import sys

from alembic import command
from sqlalchemy import create_engine

from control_api.kit.db import sqlalchemy_url
from control_api.kit.runtime import database_url
from control_api.migrations import configuration
from foundry.settings import load


def main() -> None:
    """Autogenerate one revision; read it before you commit it."""
    with create_engine(sqlalchemy_url(database_url(load()))).connect() as connection:
        command.revision(configuration(connection), message=sys.argv[1], autogenerate=True)


if __name__ == "__main__":
    main()

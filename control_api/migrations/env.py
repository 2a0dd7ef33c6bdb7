"""Alembic's entry: runs the revisions on the connection that `upgrade()` opened, in one transaction.

What it does not know: URLs, settings.
"""

from __future__ import annotations

from alembic import context

from control_api.models import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, compare_type=True
)
with context.begin_transaction():
    context.run_migrations()

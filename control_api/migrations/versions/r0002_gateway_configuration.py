"""Routing, guardrails and cache of routes; limits, guardrail profiles and blocking rules; the configuration file's state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_NAMED = ("limits", "guardrails", "blocks")
_JSONB = postgresql.JSONB(astext_type=sa.Text())
_CHECK = "ck_route_targets_kind_fields"
_PROVIDER = "(kind = 'provider' AND provider IS NOT NULL AND model IS NOT NULL)"


def upgrade() -> None:
    """Apply."""
    for table in _NAMED:
        _named(table)
    op.create_table(
        "gateway_files",
        sa.Column("cluster", sa.String(length=100), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problems", _JSONB, nullable=False),
        sa.Column("providers", _JSONB, nullable=False),
        sa.Column("prices", _JSONB, nullable=False),
        sa.PrimaryKeyConstraint("cluster", name=op.f("pk_gateway_files")),
    )
    _add("keys", sa.Column("guardrails", sa.ARRAY(sa.String(length=100)), nullable=False), "{}")
    _add("routes", sa.Column("routing", _JSONB, nullable=False), "{}")
    _add("routes", sa.Column("guardrails", sa.ARRAY(sa.String(length=100)), nullable=False), "{}")
    _add("routes", sa.Column("source", sa.String(length=10), nullable=False), "api")
    cache = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("routes", sa.Column("cache", cache, nullable=True))
    _add("route_targets", sa.Column("share", _JSONB, nullable=False), "{}")
    _deployment_names()


def downgrade() -> None:
    """Take back. Targets of deployments that do not exist go: the older schema cannot hold them."""
    op.execute("DELETE FROM route_targets WHERE kind = 'engine' AND deployment_id IS NULL")
    op.drop_constraint(op.f(_CHECK), "route_targets", type_="check")
    condition = f"(kind = 'engine' AND deployment_id IS NOT NULL) OR {_PROVIDER}"
    op.create_check_constraint(op.f(_CHECK), "route_targets", condition)
    op.drop_index(op.f("ix_route_targets_deployment_name"), table_name="route_targets")
    for table, columns in (
        ("route_targets", ("share", "deployment_name")),
        ("routes", ("source", "cache", "guardrails", "routing")),
        ("keys", ("guardrails",)),
    ):
        for column in columns:
            op.drop_column(table, column)
    for table in (*_NAMED, "gateway_files"):
        op.drop_table(table)


def _named(table: str) -> None:
    """A noun that is one contract under a name."""
    op.create_table(
        table,
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("spec", _JSONB, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("organization_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f(f"fk_{table}_organization_id_organizations"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f(f"fk_{table}_project_id_projects")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("name", name=op.f(f"uq_{table}_name")),
    )
    for column in ("organization_id", "project_id"):
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)


def _add(table: str, column: sa.Column[object], present: str) -> None:
    """Add a column; rows that are there get `present`."""
    column.server_default = sa.DefaultClause(present)
    op.add_column(table, column)
    op.alter_column(table, column.name, server_default=None)


def _deployment_names() -> None:
    """Engine targets know their deployment's name, so that it may be missing for a while."""
    op.add_column("route_targets", sa.Column("deployment_name", sa.String(length=47), nullable=True))
    op.execute(
        "UPDATE route_targets SET deployment_name = deployments.name FROM deployments"
        " WHERE deployments.id = route_targets.deployment_id"
    )
    op.create_index(op.f("ix_route_targets_deployment_name"), "route_targets", ["deployment_name"])
    op.drop_constraint(op.f(_CHECK), "route_targets", type_="check")
    condition = f"(kind = 'engine' AND deployment_name IS NOT NULL) OR {_PROVIDER}"
    op.create_check_constraint(op.f(_CHECK), "route_targets", condition)

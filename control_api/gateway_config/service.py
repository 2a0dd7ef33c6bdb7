"""Applies a configuration file: all of it in one transaction, or nothing when it has an error.

The file's objects become rows with `source = "file"`, in the default project; rows of that source that it no longer
names go. What it does not know: HTTP, SQL, how the file is watched (`watch.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from control_api.auth.subject import Subject
from control_api.blocks import service as blocks
from control_api.blocks.schemas import block_entry
from control_api.bootstrap import DEFAULT_NAME
from control_api.deployments import service as deployments
from control_api.gateway_config import repository
from control_api.gateway_config.schemas import config_problem
from control_api.guardrails import service as guardrails
from control_api.keys import service as keys
from control_api.kit.changes import Topic, announce
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.named import lock_configuration
from control_api.limits import service as limits
from control_api.limits.schemas import limit_entry
from control_api.models import GatewayFileState
from control_api.models.base import FROM_API, now
from control_api.organizations import service as organizations
from control_api.projects import service as projects
from control_api.routes import service as routes
from foundry.declare import rules
from foundry.declare.check import Checked
from foundry.declare.rules import Deployed, Finding
from foundry.located import Path, Problem

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Seen:
    """A file as it was found. `content` None: there is none."""

    path: str
    content: bytes | None


async def state(session: ReadSession, cluster: str) -> GatewayFileState | None:
    """What became of the file; None before the first look."""
    return await repository.of_cluster(session, cluster)


async def known_deployments(session: ReadSession) -> dict[str, Deployed]:
    """Deployments that the file's routes can name."""
    rows = await deployments.list_all(session)
    return {row.name: routes.deployed(row) for row in rows if row.deleting_at is None}


async def missing(session: WriteSession, cluster: str, path: str) -> None:
    """Write down that there is no file. What an earlier one declared stays in force: a slip must not empty a gateway."""
    row = await _row(session, cluster, path)
    if row.content_hash:
        words = "the file is gone; what it declared stays in force: put it back, or save an empty file to take it all out"
        _reject(row, [Problem((), words)])
    else:
        row.status, row.problems, row.checked_at = "absent", [], now()
    await session.flush()


async def reject(session: WriteSession, cluster: str, seen: Seen, problems: Sequence[Problem]) -> None:
    """Write down why a file was not applied; the last good one stays in force."""
    _reject(await _row(session, cluster, seen.path), problems)
    await session.flush()


async def apply(session: WriteSession, cluster: str, seen: Seen, checked: Checked) -> list[Problem]:
    """Make a file without errors the configuration in force; its warnings, with those that only the database knows."""
    await lock_configuration(session)
    owner = await _owner(session)
    gateway = checked.gateway
    row = await _row(session, cluster, seen.path)
    row.providers = dict(gateway.providers)
    row.prices = [price.model_dump(mode="json") for price in gateway.prices]
    await session.flush()
    taken = {
        "guardrails": await guardrails.declare(session, owner, gateway.guardrails),
        "routes": await routes.declare(session, owner, gateway.routes),
        "limits": await limits.declare(session, owner, gateway.limits),
        "blocks": await blocks.declare(session, owner, gateway.blocks),
    }
    warnings = [
        *checked.problems,
        *(_taken_over((table, name)) for table, names in taken.items() for name in names),
        *await _left_dangling(session),
    ]
    row.content_hash = hashlib.sha256(seen.content or b"").hexdigest()
    row.status, row.applied_at, row.checked_at = "applied", now(), now()
    row.problems = [config_problem(problem).model_dump(mode="json") for problem in warnings]
    await session.flush()
    await announce(session, Topic.SERVING)
    return warnings


async def _row(session: WriteSession, cluster: str, path: str) -> GatewayFileState:
    row = await repository.of_cluster(session, cluster)
    if row is None:
        row = GatewayFileState(
            cluster=cluster, path=path, status="absent", content_hash="", problems=[], providers={}, prices=[]
        )
        await session.insert(row)
    row.path = path
    return row


def _reject(row: GatewayFileState, problems: Sequence[Problem]) -> None:
    row.status, row.checked_at = "rejected", now()
    row.problems = [config_problem(problem).model_dump(mode="json") for problem in problems]


async def _owner(session: WriteSession) -> Subject:
    """The file's objects belong to the default project."""
    organization = await organizations.ensure(session, DEFAULT_NAME)
    project = await projects.ensure(session, organization.id, DEFAULT_NAME)
    return Subject(key_id="", organization_id=organization.id, project_id=project.id, scopes=())


def _taken_over(path: Path) -> Problem:
    words = "was made by a call before; the file owns the name now, and it goes when it leaves the file"
    return Problem(path, words, severity="warning")


async def _left_dangling(session: ReadSession) -> list[Problem]:
    """What calls made and what now names something that is in neither the file nor the database."""
    world = await routes.world(session)
    found: list[Problem] = []

    def note(path: Path, findings: Sequence[Finding]) -> None:
        found.extend(
            Problem((*path, *one.path), f"made by a call: {one.message}", severity="warning")
            for one in findings
            if one.severity == "error"
        )

    for row in await routes.list_all(session):
        if row.source == FROM_API:
            note(("routes", row.name), [*rules.route(row.name, world.routes[row.name], world)])
    for limit in await limits.list_all(session):
        if limit.source == FROM_API:
            note(("limits", limit.name), [*rules.limit(limit_entry(limit), world)])
    for block in await blocks.list_all(session):
        if block.source == FROM_API:
            note(("blocks", block.name), [*rules.block(block_entry(block), world)])
    for key in await keys.list_live(session):
        note(("keys", key.name), [*rules.profiles(key.guardrails, world)])
    return found

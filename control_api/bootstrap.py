"""What a fresh instance holds: the default organisation and project, the first admin key, its cluster.

Runs at every start and changes nothing that is there. What it does not know: HTTP.
"""

from __future__ import annotations

from sqlalchemy import func, select

from control_api.clusters import service as clusters
from control_api.keys import service as keys
from control_api.kit.leader import lock_number
from control_api.kit.runtime import Runtime
from control_api.organizations import service as organizations
from control_api.projects import service as projects

DEFAULT_NAME = "default"
_LOCK = "foundry-bootstrap"


async def bootstrap(runtime: Runtime) -> None:
    """Make what is missing. Two processes at once take turns. Raises ConfigurationError without `admin.key`."""
    secret = runtime.settings.secret("admin.key")
    async with runtime.database.write() as session:
        await session.scalar(select(func.pg_advisory_xact_lock(lock_number(_LOCK))))
        organization = await organizations.ensure(session, DEFAULT_NAME)
        project = await projects.ensure(session, organization.id, DEFAULT_NAME)
        await keys.ensure_admin(
            session, runtime.pepper, secret, organization_id=organization.id, project_id=project.id
        )
        await clusters.ensure(session, runtime.settings.gateway.cluster)

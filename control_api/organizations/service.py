"""What can be done with organisations.

What it does not know: HTTP, SQL.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_api.auth.subject import Subject
from control_api.kit.db import ReadSession, WriteSession
from control_api.models import Organization
from control_api.organizations import repository
from foundry.telemetry import new_id


async def list_visible(session: ReadSession, subject: Subject) -> Sequence[Organization]:
    """The organisations that the subject may see."""
    return await repository.of_viewer(session, subject.organization_id)


async def ensure(session: WriteSession, name: str) -> Organization:
    """The organisation of that name, made if there is none."""
    row = await repository.by_name(session, name)
    if row is None:
        row = Organization(id=new_id("org"), name=name)
        await session.insert(row)
    return row

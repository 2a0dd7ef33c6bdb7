"""What can be done with blocks: make, replace, delete; and what the configuration file declares of them.

What it does not know: HTTP, SQL, how a gateway carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_api.auth.subject import Subject
from control_api.blocks import repository
from control_api.kit.changes import Topic, announce
from control_api.kit.db import ReadSession, WriteSession
from control_api.kit.findings import refuse
from control_api.kit.named import lock_configuration
from control_api.kit.pagination import Window
from control_api.models import Block
from control_api.models.base import FROM_API
from control_api.routes import service as routes
from foundry.declare import rules
from foundry.errors import ConfigurationError, InvalidParameter
from foundry.gateway.blocks import check_rule
from foundry.types.guardrails import BlockRule


async def put(session: WriteSession, subject: Subject, wanted: BlockRule, *, has_countries: bool) -> Block:
    """Make or replace. Raises InvalidParameter for what cannot hold, Conflict for a name that is taken or the file's.

    has_countries: a country database is configured, without which a rule about countries matches nobody.
    """
    await lock_configuration(session)
    refuse(rules.block(wanted, await routes.world(session)))
    try:
        check_rule(wanted, has_countries=has_countries)
    except ConfigurationError as error:
        raise InvalidParameter(error.message, param=error.param) from error
    row = await repository.rows.put(session, subject, wanted.name, wanted, source=FROM_API)
    await announce(session, Topic.SERVING)
    return row


async def list_visible(
    session: ReadSession, subject: Subject, window: Window
) -> tuple[Sequence[Block], str | None]:
    """One page of those that the subject may see."""
    return await repository.rows.window(session, subject, window)


async def get(session: ReadSession, subject: Subject, name: str) -> Block:
    """A visible one. Raises NotFound."""
    return await repository.rows.get(session, subject, name)


async def delete(session: WriteSession, subject: Subject, name: str) -> None:
    """Delete. Raises NotFound, and Conflict for what the file declares."""
    await lock_configuration(session)
    await repository.rows.delete(session, subject, name)
    await announce(session, Topic.SERVING)


async def declare(session: WriteSession, owner: Subject, wanted: Mapping[str, BlockRule]) -> list[str]:
    """Make the file's blocks these and no others; names taken over from calls. The file was checked before."""
    return await repository.rows.declare(session, owner, wanted)


async def list_all(session: ReadSession) -> Sequence[Block]:
    """Every one of the instance, for the snapshot."""
    return await repository.rows.everything(session)

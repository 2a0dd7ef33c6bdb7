"""No field in the TOML that nothing reads."""

from __future__ import annotations

from foundry.declare.model import GatewayFile
from foundry.providers.vendors import Vendor
from foundry.settings import Settings
from tests.foundry.declare.reads import Field, fields, module_of, modules, unread

SAME = {
    "RouteWrite": ("RouteEntry",),
    "EngineTargetSpec": ("EngineTarget", "Target"),
    "ProviderTargetSpec": ("ProviderTarget", "Target"),
    "PriceRow": ("Price",),
    "LongPrompt": ("Price",),
    "Settings": ("GatewaySettings", "Runtime", "load", "settings"),
}
"""Under what other names a file's models travel: routes become snapshot entries, price rows prices, settings are loaded."""
DISCRIMINATORS = {"kind"}
"""Read by pydantic itself: it chooses the kind of a target."""
TRAVELS = {"routes.targets.adapter": "goes into EngineTarget.model"}
"""Fields that travel under another name."""
DOCUMENTATION = {
    "prices.source": "goes into Price.source",
    "providers.source": "says where the facts of a row come from",
    "providers.read": "says when they were read",
    "providers.title": "shown by GET /v1/providers",
}
"""For people, not for programs."""
AWAITED: tuple[str, ...] = ()
"""Where the readers are on branches that are not merged yet; a part that is merged must leave, which a test demands."""


def file_fields() -> list[Field]:
    found = [
        *fields(GatewayFile, "", (), SAME),
        *fields(Vendor, ".providers", (), SAME),
        *fields(Settings, "", (), SAME),
    ]
    return [
        Field(field.path.lstrip("."), tuple(one for one in field.owners if one != "GatewayFile"), field.name)
        for field in found
        if field.name not in DISCRIMINATORS
        and field.path.lstrip(".") not in {"providers", *TRAVELS, *DOCUMENTATION}
    ]


def test_every_field_of_the_file_has_a_reader() -> None:
    left = {path for path in unread(file_fields(), modules()) if not path.startswith(AWAITED)}
    assert not left, "\n".join(["nothing reads these fields of foundry.toml:", *sorted(left)])


def test_nothing_is_awaited_that_has_come() -> None:
    left = unread(file_fields(), modules())
    here = [part for part in AWAITED if not any(path.startswith(part) for path in left)]
    assert not here, f"every field below {', '.join(here)} has a reader now: take it out of AWAITED"


def test_the_walk_reaches_the_leaves() -> None:
    paths = {field.path for field in file_fields()}
    assert {"routes.routing.retries.attempts", "routes.targets.canary_percent", "limits.amount"} <= paths
    assert {
        "guardrails.guards.options",
        "blocks.cidrs",
        "prices.input_per_mtok_usd",
        "providers.auth",
    } <= paths
    assert {"gateway.max_body_bytes", "log_level", "routes.cache.semantic.threshold"} <= paths
    assert len(paths) > 80


def test_a_field_that_nothing_reads_is_found() -> None:
    wanted = Field("routes.routing.hold.deadline_s", ("Hold", "Routing", "RouteEntry"), "deadline_s")
    stranger = module_of("foundry/gateway/a.py", "from x import Other\nOther().deadline_s")
    writer = module_of("foundry/gateway/b.py", "from x import Routing\nthing.deadline_s = 1")
    carrier = module_of("control_api/x/schemas.py", "from x import Routing\nRouting().deadline_s")
    reader = module_of("foundry/gateway/c.py", "from x import RouteEntry\nentry.routing.hold.deadline_s")
    assert unread([wanted], [stranger, writer, carrier]) == {wanted.path}
    assert unread([wanted], [stranger, reader]) == set()

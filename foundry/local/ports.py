"""Finding ports, so that two instances on one machine never collide.

Well-known ports are taken when free (8000 endpoint, 8100 control API, 8265 dashboard); everything else lies in one block per
instance, below the kernel's ephemeral range. A port that is free now may be somebody's in a second, so a running instance also
*claims* its ports: it binds an abstract Unix socket named after each. The kernel makes that atomic, scopes it to the network
namespace (as ports are) and releases it when the holder dies. What it does not know: what the ports are for.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterable
from typing import Final

from foundry.errors import ConfigurationError
from foundry.local.instance import BLOCK_SIZE, Ports

_WELL_KNOWN: Final = {"serve": 8000, "control": 8100, "dashboard": 8265}
_TRIES: Final = 100
_FIRST_BLOCK: Final = 20_000
_BLOCKS: Final = 30  # 20000..31999: below 32768, where Linux's ephemeral ports begin


class PortClaims:
    """Claims held by this process until `release` or its end."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def claim(self, port: int) -> bool:
        """Claim `port` (or the block that starts at it); False when another instance holds it. Twice is fine."""
        if port in self._held or not sys.platform.startswith("linux"):
            return True
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0foundry-port-{port}")
        except OSError:
            holder.close()
            return False
        self._held[port] = holder
        return True

    def release(self, port: int | None = None) -> None:
        """Give one claim up, or all of them."""
        for held in [port] if port is not None else list(self._held):
            holder = self._held.pop(held, None)
            if holder is not None:
                holder.close()


def is_free(port: int) -> bool:
    """Whether nothing listens on `port`, on any address. Connections that linger after a close do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def find(
    instance_id: str, remembered: Ports | None, claims: PortClaims, *, patience_s: float = 3.0
) -> tuple[Ports, list[str]]:
    """Claimed, free ports: the remembered ones where they are still to be had. Also one reason per changed port.

    patience_s: how long processes of a killed predecessor, which are ending, may take to let go of the remembered ones.
    """
    if remembered is not None:
        _await_own(remembered, patience_s)
    reasons: list[str] = []
    chosen: dict[str, int] = {}
    for name, well_known in _WELL_KNOWN.items():
        before = getattr(remembered, name) if remembered else None
        candidates = range(well_known, well_known + _TRIES)
        chosen[name] = _first(name, [*([before] if before else []), *candidates], claims)
        if chosen[name] != (before or well_known):
            reasons.append(f"{name}: port {before or well_known} is taken, using {chosen[name]}")
    block = _find_block(instance_id, remembered.block if remembered else None, claims)
    if remembered and block != remembered.block:
        reasons.append(
            f"ports {remembered.block}-{remembered.block + BLOCK_SIZE - 1} are taken, using {block} and up"
        )
    return Ports(
        serve=chosen["serve"], control=chosen["control"], dashboard=chosen["dashboard"], block=block
    ), reasons


def _await_own(remembered: Ports, patience_s: float) -> None:
    own = [remembered.serve, remembered.control, remembered.dashboard, *_block(remembered.block)]
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and not all(is_free(port) for port in own):
        time.sleep(0.1)


def _block(first: int) -> range:
    return range(first, first + BLOCK_SIZE)


def _first(name: str, candidates: Iterable[int], claims: PortClaims) -> int:
    for port in candidates:
        if claims.claim(port):
            if is_free(port):
                return port
            claims.release(port)
    raise ConfigurationError(
        f"no free port for {name!r}: the {_TRIES} from {_WELL_KNOWN[name]} up are taken; free one of them"
    )


def _find_block(instance_id: str, remembered: int | None, claims: PortClaims) -> int:
    start = int(instance_id, 16) % _BLOCKS  # spread, so that instances rarely meet even when one is down
    spread = [_FIRST_BLOCK + BLOCK_SIZE * ((start + step) % _BLOCKS) for step in range(_BLOCKS)]
    for block in [*([remembered] if remembered else []), *spread]:
        if claims.claim(block):
            if all(is_free(port) for port in _block(block)):
                return block
            claims.release(block)
    raise ConfigurationError(
        f"no {BLOCK_SIZE} free ports in a row from {_FIRST_BLOCK} to {_FIRST_BLOCK + BLOCK_SIZE * _BLOCKS}: stop an instance"
    )

"""The local platform: the processes that `foundry up` starts and supervises on one machine.

From Python: `up(home)` starts or finds an instance and waits until it is ready, `down(home)` ends exactly what it started.
Imports happen inside, because every child's start pays for this module. What it does not know: terminals (`foundry.cli`), the
code of the apps that it starts (they are command lines to it).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foundry.local.instance import Instance
    from foundry.local.start import Stopped


def up(
    home: Path, *, models: bool = True, timeout_s: float = 900.0, model_uris: Sequence[str] = ()
) -> Instance:
    """Start (or find) the instance in `home` and wait until it is ready. Raises ProcessError with the failing part's last words."""
    from foundry.local import start

    return start.up(home, models=models, timeout_s=timeout_s, model_uris=model_uris)


def down(home: Path, *, purge: bool = False) -> Stopped:
    """End everything that the instance started; with `purge` delete its home too. Harmless when nothing runs."""
    from foundry.local import start

    return start.down(home, purge=purge)

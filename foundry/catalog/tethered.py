"""Run a command that dies with the process that started it, however that one dies.

    python foundry/catalog/tethered.py COMMAND ARG...

It asks the kernel for SIGKILL at the parent's death and then becomes the command; where there is no prctl (not Linux)
it only becomes the command. What it does not know: what it runs. It imports nothing of ours, so it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(command: list[str]) -> None:
    """Tie this process to its parent and become `command`."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 (an argument list, no shell)


if __name__ == "__main__":
    main(sys.argv[1:])

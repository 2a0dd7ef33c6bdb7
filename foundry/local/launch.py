"""Become another program that does not outlive the process that started it (Linux).

Sets the parent-death signal (SIGTERM, so that the program can end in order) and replaces itself: no fork hook in a process with
threads, no process in between. Standard library only, because each child pays its import. It must run in the process's first
thread's child: the signal follows the thread that forked.

Run: `python -I -S launch.py PARENT_PID NICENESS PROGRAM [ARGUMENT ...]`
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arm the signal, check that the parent still lives, become the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(f"the supervisor (pid {parent}) died before its child started")
    os.nice(int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - an argument list, and no shell is wanted


if __name__ == "__main__":
    main()

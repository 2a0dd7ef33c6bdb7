"""Preloaded into the fork server that vLLM's engine core is forked from (see `core_forkserver.py`); nothing else imports it.

It imports what the core needs, so that the replica's own imports and the core's run side by side, and ties every forked process to
the life of the one that forked it: the fork server ends with its replica, so no core outlives a killed replica.
What it does not know: the replica, Ray, HTTP.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys

for _name in ("vllm.v1.engine.core", "vllm.v1.executor.uniproc_executor", "vllm.v1.worker.cpu_worker"):
    importlib.import_module(_name)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_die_with_parent)

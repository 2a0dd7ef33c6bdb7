"""What a benchmark says at its end: the machine, medians with their spread, targets met or missed; one JSON line.

What it does not know: how the figures were taken.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil


def machine() -> dict[str, object]:
    """Kind of machine, without names of hosts or users."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    }
    return {
        "cores": os.cpu_count(),
        "cpu": ", ".join(sorted(models)) or platform.machine(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def head(benchmark: str, packages: Sequence[str]) -> dict[str, object]:
    """The first fields of every result."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {package: version(package) for package in packages},
    }


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float | int]:
    """Median with the smallest and largest value over the rounds."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "rounds": len(values),
    }


def target(value: float, limit: float, *, at_least: bool = False) -> dict[str, object]:
    """One limit: the measured value, the limit, and whether it holds."""
    met = value >= limit if at_least else value <= limit
    return {"value": round(value, 3), "limit": limit, "at_least": at_least, "pass": met}


def all_met(targets: Mapping[str, Mapping[str, object]]) -> bool:
    """Whether every target holds."""
    return all(bool(entry["pass"]) for entry in targets.values())

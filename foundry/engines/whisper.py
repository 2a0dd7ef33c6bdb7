"""`DeploymentSpec` to a faster-whisper engine: speech to text by CTranslate2, on a CPU or a GPU. A pure function.

`engine_args`: `beam_size` (5), `vad_filter` (false), `compute_type` (CTranslate2's name of a type, e.g. "int8"; default from `dtype`).
What it does not know: faster-whisper (`serve_apps/transcription.py`), where the model lies.
"""

from __future__ import annotations

from foundry.engines.config import ClusterResources, EngineConfig
from foundry.engines.single import refuse_unknown, render_single, require_task
from foundry.types.deployment import DeploymentSpec, Task

_ARGUMENTS = {"beam_size": int, "vad_filter": bool, "compute_type": str}


def render(spec: DeploymentSpec, cluster: ClusterResources | None = None) -> EngineConfig:
    """The configuration of one deployment. Raises DeploymentSpecError naming what cannot be run as written."""
    refuse_unknown(spec, _ARGUMENTS)
    require_task(spec, Task.TRANSCRIBE)
    arguments = {
        "compute_type": "default" if spec.dtype == "auto" else spec.dtype,
        "streams": spec.max_num_seqs or 1,
        **spec.engine_args,
    }
    return render_single(spec, cluster, arguments)

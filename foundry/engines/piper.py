"""`DeploymentSpec` to a piper engine: text to speech on a CPU. A pure function.

`engine_args`: `noise_scale` and `noise_w_scale` (how lively the voice is; the voice's own configuration has defaults).
What it does not know: piper (`serve_apps/speech.py`), where the voice lies.
"""

from __future__ import annotations

from foundry.engines.config import ClusterResources, EngineConfig
from foundry.engines.single import refuse_unknown, render_single, require_task
from foundry.errors import DeploymentSpecError
from foundry.types.deployment import DeploymentSpec, Task

_ARGUMENTS = {"noise_scale": float, "noise_w_scale": float}


def render(spec: DeploymentSpec, cluster: ClusterResources | None = None) -> EngineConfig:
    """The configuration of one deployment. Raises DeploymentSpecError naming what cannot be run as written."""
    refuse_unknown(spec, _ARGUMENTS)
    require_task(spec, Task.SPEAK)
    for field, value, neutral in (("dtype", spec.dtype, "auto"), ("max_num_seqs", spec.max_num_seqs, None)):
        if value != neutral:
            raise DeploymentSpecError(
                f"piper has no {field} ({value!r}): a voice has one type and speaks one text at a time; leave it out",
                param=field,
            )
    if spec.device == "gpu" or spec.accelerator_type:
        raise DeploymentSpecError(
            f"deployment {spec.name!r}: piper runs on the CPU: set device to 'cpu'", param="device"
        )
    on_cpu = spec.model_copy(update={"device": "cpu"})
    return render_single(on_cpu, cluster, dict(spec.engine_args))

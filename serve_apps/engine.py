"""The Serve application of one deployment: `serve_apps.engine:build`, args `{"spec": DeploymentSpec}`.

The replica is Serve's ingress itself: HAProxy reaches the engine's own OpenAI ASGI app in the replica directly, with no router
or proxy process between. Starting order: resolve the model (pulling), start the engine (loading), one request through it (warming).
Heavy imports (vLLM takes seconds of CPU) happen in the replica only, never in the task that builds the application.
What it does not know: keys, routes, usage (the gateway does those); it demands the instance's engine token of every caller.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any, Protocol

import ray
import structlog
from ray import serve
from ray.serve import Application, Deployment
from starlette.types import ASGIApp

from foundry import catalog
from foundry.engines import ClusterResources, EngineConfig, render
from foundry.engines.adapters import adapter_arguments
from foundry.engines.phases import PhaseReporter
from foundry.errors import ConfigurationError, DeploymentSpecError, FoundryError
from foundry.settings import load
from foundry.telemetry import configure
from foundry.types.deployment import DeploymentPhase, DeploymentSpec
from serve_apps import core_forkserver
from serve_apps.engine_edge import EngineEdge, warm_up

log = structlog.get_logger(__name__)
_TOKEN_SECRET = "engine.token"  # noqa: S105 (the name of the secret, not the secret)


class EngineServer(Protocol):
    """What a server gives us, whichever engine it runs."""

    async def check_health(self) -> None:
        """Raise when the engine is dead and the replica must be replaced."""

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """The engine's OpenAI-compatible app."""
        ...

    async def stop(self) -> None:
        """End the engine's processes."""


async def _start_vllm(config: EngineConfig) -> EngineServer:
    from serve_apps.vllm_server import start  # noqa: PLC0415 (imports vLLM)

    return await start(config)


async def _start_sglang(config: EngineConfig) -> EngineServer:
    from serve_apps.sglang_server import start  # noqa: PLC0415 (imports SGLang)

    return await start(config)


async def _start_whisper(config: EngineConfig) -> EngineServer:
    try:
        from serve_apps.transcription import start  # noqa: PLC0415 (imports faster-whisper)
    except ModuleNotFoundError as error:
        raise _missing(error, "audio") from error
    return await start(config)


async def _start_piper(config: EngineConfig) -> EngineServer:
    if importlib.util.find_spec("piper") is None:
        raise _missing(ModuleNotFoundError("No module named 'piper'", name="piper"), "speech")
    try:
        from serve_apps.speech import start  # noqa: PLC0415 (imports FFmpeg's encoders)
    except ModuleNotFoundError as error:
        raise _missing(error, "speech") from error
    return await start(config)


def _missing(error: ModuleNotFoundError, extra: str) -> ConfigurationError:
    return ConfigurationError(
        f"the package '{error.name}' is not installed where the engine runs: pip install 'foundry[{extra}]' "
        f"(make install WITH={extra})"
    )


_SERVERS = {
    "vllm": _start_vllm,
    "sglang": _start_sglang,
    "whisper": _start_whisper,
    "piper": _start_piper,
}


@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]  (Ray annotates it as Callable)
class EngineReplica:
    """One replica: an engine and the ASGI app in front of it."""

    async def __init__(self, spec_json: str, config: EngineConfig) -> None:
        spec = DeploymentSpec.model_validate_json(spec_json)
        settings = load()
        configure(f"engine/{spec.name}", settings.log_level)
        self._spec, self._token = spec, settings.secret(_TOKEN_SECRET)
        replica = serve.get_replica_context().replica_id.unique_id
        self._phases = PhaseReporter(settings.home, spec.name, replica)
        if spec.engine == "vllm" and config.device == "cpu":
            core_forkserver.warm()
        try:
            path = await self._pull(settings.home, spec.model)
            adapters = {name: await self._pull(settings.home, uri) for name, uri in spec.adapters.items()}
            self._phases.report(DeploymentPhase.LOADING, f"{spec.engine} on {config.device}")
            config.llm_config["model_loading_config"]["model_source"] = path
            config.llm_config["engine_kwargs"] |= adapter_arguments(adapters)
            self._server = await _SERVERS[spec.engine](config)
        except FoundryError as error:
            self._phases.report(DeploymentPhase.FAILED, error.message)
            raise
        except (OSError, RuntimeError, ValueError, ImportError) as error:  # the engine's own words
            self._phases.report(DeploymentPhase.FAILED, f"{type(error).__name__}: {error}")
            raise

    async def _pull(self, home: Path, uri: str) -> str:
        def show(step: catalog.PullProgress) -> None:
            self._phases.report(DeploymentPhase.PULLING, step.line(), step.percent)

        self._phases.report(DeploymentPhase.PULLING, uri)
        model = await asyncio.to_thread(catalog.resolve, uri, home, show)
        log.info("model_resolved", uri=model.resolved, digest=model.digest)
        return str(model.path)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve once the constructor is through; the replica is ready when this returns."""
        app = await self._server.__serve_build_asgi_app__()
        self._phases.report(DeploymentPhase.WARMING)
        await warm_up(app, self._spec)
        self._phases.report(DeploymentPhase.READY)
        return EngineEdge(app, self._token)

    async def check_health(self) -> None:
        """Serve's periodic check: a dead engine raises, and Serve replaces the replica."""
        await self._server.check_health()

    async def __del__(self) -> None:
        """Called by Serve when the replica is told to stop."""
        server = getattr(self, "_server", None)
        if server is not None:
            await server.stop()
        if hasattr(self, "_phases"):
            self._phases.withdraw()


def build(args: dict[str, Any]) -> Application:  # Any: whatever JSON the Serve configuration holds
    """The application of one deployment. Raises DeploymentSpecError when it cannot be run as written."""
    raw = args.get("spec")
    if raw is None:
        raise DeploymentSpecError("serve_apps.engine:build needs args {'spec': DeploymentSpec}", param="spec")
    spec = (
        DeploymentSpec.model_validate_json(raw)
        if isinstance(raw, str)
        else DeploymentSpec.model_validate(raw)
    )
    config = render(spec, _cluster())
    for decision in config.decisions:
        log.info("engine_choice", deployment=spec.name, choice=decision)
    configure("serve", load().log_level)
    deployment: Deployment = serve.deployment(**config.serve_options)(EngineReplica)
    application = deployment.bind(spec.model_dump_json(), config)
    return _with_prefix_router(application) if spec.replica_routing == "prefix" else application


def _with_prefix_router(engine: Application) -> Application:
    """Let HAProxy ask Ray Serve's prefix-aware router for the replica of each request: it calls the router deployment with
    the request's body, and pins the connection to the replica that it names."""
    from ray.llm._internal.serve.core.ingress.router import LLMRouter  # noqa: PLC0415  (seconds of imports)

    options: dict[str, Any] = {  # Any: handed to ray.serve.deployment, which validates it
        "name": "router",
        "max_ongoing_requests": 1000,
        "ray_actor_options": {"num_cpus": 0},
    }
    router: Deployment = serve.deployment(**options)(LLMRouter)
    # The hook that `ray.serve.llm` itself uses for direct streaming (core/ingress/builder.py in ray 2.60).
    attach = engine._with_ingress_request_router  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  as above
    return attach(router.bind(server=engine))


def _cluster() -> ClusterResources | None:
    if not ray.is_initialized():
        return None
    offered = ray.cluster_resources()
    fixed = load().gateway.cluster == "local"  # `foundry up`'s cluster is this machine and has no autoscaler
    return ClusterResources(cpus=offered.get("CPU", 0.0), gpus=offered.get("GPU", 0.0), fixed_size=fixed)

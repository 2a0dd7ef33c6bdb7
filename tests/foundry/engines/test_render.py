"""From a deployment to the engines' configuration: one object for CPU and GPU, vLLM and SGLang."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from foundry.engines import ENGINES, ClusterResources, render
from foundry.engines.adapters import adapter_arguments
from foundry.engines.defaults import CHAT, DEFAULT_DEPLOYMENTS, EMBEDDING, READY_MADE, SPEECH, TRANSCRIPTION
from foundry.errors import DeploymentSpecError
from foundry.types.deployment import DeploymentSpec, Task

ROOT = Path(__file__).parents[3]
NO_GPU = ClusterResources(cpus=8, gpus=0, fixed_size=True)
GPUS = ClusterResources(cpus=64, gpus=8, fixed_size=True)
GROWING = ClusterResources(cpus=2, gpus=0, fixed_size=False)


def spec(**fields: Any) -> DeploymentSpec:
    return DeploymentSpec.model_validate(
        {"name": "m", "model": "hf://org/m", "served_model_name": "m", **fields}
    )


def test_a_cpu_deployment() -> None:
    config = render(spec(dtype="float32", max_model_len=512, cpus_per_worker=2), NO_GPU)
    assert config.device == "cpu"
    assert config.llm_config["accelerator_config"] == {"kind": "cpu"}
    assert config.llm_config["experimental_configs"] == {"stream_batching_interval_ms": 0}
    arguments = config.llm_config["engine_kwargs"]
    assert arguments["enforce_eager"] is True
    assert arguments["kv_cache_memory_bytes"] == 1024**3
    assert (arguments["dtype"], arguments["max_model_len"], arguments["runner"]) == (
        "float32",
        512,
        "generate",
    )
    assert "max_num_seqs" not in arguments
    options = config.serve_options
    assert options["placement_group_bundles"] == [{"CPU": 2}]
    assert options["ray_actor_options"]["num_cpus"] == 2
    env = options["ray_actor_options"]["runtime_env"]["env_vars"]
    assert (env["OMP_NUM_THREADS"], env["VLLM_CPU_OMP_THREADS_BIND"]) == ("2", "nobind")
    assert any("the cluster has no GPU" in reason for reason in config.decisions)
    assert any("kv_cache_memory_bytes" in reason for reason in config.decisions)


def test_a_gpu_deployment_keeps_the_engines_defaults() -> None:
    config = render(
        spec(
            tensor_parallel_size=2,
            pipeline_parallel_size=2,
            accelerator_type="H100",
            replicas=2,
            cpus_per_worker=4,
        ),
        GPUS,
    )
    assert config.device == "gpu"
    bundle = {"CPU": 4, "GPU": 1, "accelerator_type:H100": 0.001}
    assert config.serve_options["placement_group_bundles"] == [bundle] * 4
    assert config.serve_options["placement_group_strategy"] == "PACK"
    assert config.serve_options["num_replicas"] == 2
    arguments = config.llm_config["engine_kwargs"]
    assert (arguments["tensor_parallel_size"], arguments["pipeline_parallel_size"]) == (2, 2)
    assert arguments.keys().isdisjoint({"enforce_eager", "kv_cache_memory_bytes", "max_model_len"})
    env = config.serve_options["ray_actor_options"]["runtime_env"]["env_vars"]
    assert env.keys().isdisjoint({"OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_PLUGINS"})


def test_pipeline_stages_on_a_cpu_are_traced() -> None:
    arguments = render(spec(device="cpu", pipeline_parallel_size=2), NO_GPU).llm_config["engine_kwargs"]
    assert "enforce_eager" not in arguments
    assert arguments["compilation_config"] == {"mode": 2, "backend": "eager"}


def test_sglang_puts_all_ranks_into_one_bundle() -> None:
    config = render(spec(engine="sglang", tensor_parallel_size=4, max_model_len=4096, task=Task.EMBED), GPUS)
    assert config.serve_options["placement_group_bundles"] == [{"CPU": 4, "GPU": 4}]
    arguments = config.llm_config["engine_kwargs"]
    assert (arguments["tp_size"], arguments["context_length"], arguments["is_embedding"]) == (4, 4096, True)


@pytest.mark.parametrize(
    ("fields", "cluster", "device"),
    [
        ({}, NO_GPU, "cpu"),
        ({}, GPUS, "gpu"),
        ({}, None, "cpu"),
        ({"device": "cpu"}, GPUS, "cpu"),
        ({"device": "gpu"}, GROWING, "gpu"),
        ({"accelerator_type": "L4"}, GROWING, "gpu"),
    ],
)
def test_the_device_and_its_reason(
    fields: dict[str, Any], cluster: ClusterResources | None, device: str
) -> None:
    config = render(spec(**fields), cluster)
    assert config.device == device
    assert config.decisions[0].startswith(f"device={device}: ")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("key", ["api_key", "port", "dtype"])
def test_no_engine_lets_its_arguments_repeat_the_spec(engine: str, key: str) -> None:
    with pytest.raises(DeploymentSpecError, match=f"engine_args.{key} of deployment 'm'") as caught:
        render(spec(engine=engine, engine_args={key: "x"}), GPUS)
    assert caught.value.param == f"engine_args.{key}"


@pytest.mark.parametrize(
    ("fields", "cluster", "words"),
    [
        ({"engine": "sglang"}, NO_GPU, "sglang runs on GPUs only"),
        ({"task": Task.SPEAK}, NO_GPU, "vllm does not do task 'speak'"),
        ({"engine": "whisper"}, NO_GPU, "whisper does task 'transcribe', not 'generate'"),
        (
            {"engine": "whisper", "task": Task.TRANSCRIBE, "tensor_parallel_size": 2},
            GPUS,
            "whisper has no tensor_parallel_size",
        ),
        (
            {"engine": "whisper", "task": Task.TRANSCRIBE, "adapters": {"a": "hf://o/a"}},
            NO_GPU,
            "whisper has no adapters",
        ),
        (
            {"engine": "whisper", "task": Task.TRANSCRIBE, "engine_args": {"beam_size": True}},
            NO_GPU,
            "must be of type int",
        ),
        ({"engine": "piper", "task": Task.SPEAK, "device": "gpu"}, GPUS, "piper runs on the CPU"),
        ({"engine": "piper", "task": Task.SPEAK, "max_num_seqs": 2}, NO_GPU, "piper has no max_num_seqs"),
        ({"engine": "sglang", "device": "cpu"}, GPUS, "sglang runs on GPUs only"),
        ({"engine": "sglang", "kv_cache_memory_bytes": 1}, GPUS, "mem_fraction_static"),
        ({"device": "cpu", "accelerator_type": "L4"}, GPUS, "accelerator_type 'L4' needs a GPU"),
        ({"tensor_parallel_size": 4, "pipeline_parallel_size": 4}, GPUS, "needs 16 GPUs .* 4 x .* 4.* has 8"),
        ({"tensor_parallel_size": 16}, NO_GPU, "needs 16 CPUs"),
        ({"pipeline_parallel_size": 2, "engine_args": {"enforce_eager": True}}, NO_GPU, "enforce_eager"),
        ({"engine_args": {"chat_template": "foundry:nope"}}, NO_GPU, "not one of ours: smollm2_tools"),
        ({"engine_args": {"tensor_parallel_size": 2}}, NO_GPU, "use the field `tensor_parallel_size`"),
    ],
)
def test_what_cannot_run_says_why(fields: dict[str, Any], cluster: ClusterResources, words: str) -> None:
    with pytest.raises(DeploymentSpecError, match=words) as caught:
        render(spec(**fields), cluster)
    assert caught.value.param


def test_replicas_by_load() -> None:
    scaling = {"min_replicas": 0, "max_replicas": 3, "target_in_flight": 4}
    options = render(spec(autoscaling=scaling), NO_GPU).serve_options
    assert "num_replicas" not in options
    config = options["autoscaling_config"]
    assert (config["min_replicas"], config["initial_replicas"], config["max_replicas"]) == (0, 1, 3)
    assert config["target_ongoing_requests"] == 4
    with pytest.raises(ValueError, match="min_replicas 2 is above max_replicas 1"):
        spec(autoscaling={"min_replicas": 2})


_ASK_SERVE = """
import json, sys
from ray import serve
from foundry.engines import ClusterResources, render
from foundry.types.deployment import DeploymentSpec
spec = DeploymentSpec.model_validate_json(sys.argv[1])
options = render(spec, ClusterResources(cpus=8, gpus=0, fixed_size=True)).serve_options
config = serve.deployment(**options)(type("Engine", (), {}))._deployment_config
print(json.dumps([config.autoscaling_config.min_replicas, config.request_router_config.request_router_class]))
"""
"""Run in a process of its own: Serve imports the router, and with it torch and vLLM, which warn and patch as they come."""


@pytest.mark.skipif(find_spec("ray") is None or find_spec("vllm") is None, reason="needs Ray Serve and vLLM")
def test_serve_itself_accepts_the_options_of_scaling_and_prefix_routing() -> None:
    scaled = spec(autoscaling={"min_replicas": 0, "max_replicas": 2}, replica_routing="prefix")
    command = [sys.executable, "-c", _ASK_SERVE, scaled.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    minimum, router = json.loads(done.stdout.splitlines()[-1])
    assert (minimum, router) == (0, "ray.serve.llm.request_router:PrefixCacheAffinityRouter")


def test_adapters_turn_lora_on() -> None:
    arguments = render(spec(adapters={"m-a": "file:///a", "m-b": "file:///b"}), NO_GPU).llm_config[
        "engine_kwargs"
    ]
    assert (arguments["enable_lora"], arguments["max_loras"], arguments["max_cpu_loras"]) == (True, 2, 2)
    with pytest.raises(DeploymentSpecError, match="adapters are served by engine 'vllm'"):
        render(spec(engine="sglang", adapters={"m-a": "file:///a"}), GPUS)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "adapter_config.json"),
        ({"r": "x"}, "rank 'x'"),
        ({"r": 513}, "ranks from 1 to 512"),
        ([], "TypeError"),
    ],
)
def test_what_is_no_adapter_says_why(tmp_path: Path, config: Any, words: str) -> None:
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(DeploymentSpecError, match=words):
        adapter_arguments({"m-a": str(tmp_path)})


def test_the_rank_fits_all_adapters(tmp_path: Path) -> None:
    for name, rank in (("a", 4), ("b", 12)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    arguments = adapter_arguments({name: str(tmp_path / name) for name in ("a", "b")})
    assert arguments["max_lora_rank"] == 16
    assert arguments["lora_modules"] == [{"name": name, "path": str(tmp_path / name)} for name in ("a", "b")]
    assert adapter_arguments({}) == {}


def test_a_growing_cluster_may_still_get_what_it_lacks() -> None:
    assert render(spec(device="gpu", tensor_parallel_size=16), GROWING).device == "gpu"


def test_the_deployments_environment_wins() -> None:
    config = render(spec(env={"OMP_NUM_THREADS": "7"}), NO_GPU)
    assert config.serve_options["ray_actor_options"]["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "7"


def test_the_defaults_fit_a_machine_of_two_cores_and_have_prices() -> None:
    for default in DEFAULT_DEPLOYMENTS:
        render(default, ClusterResources(cpus=2, gpus=0, fixed_size=True))
        assert default.price is not None
        assert default.price.source == "operator"
    assert render(EMBEDDING).llm_config["engine_kwargs"]["runner"] == "pooling"


def test_the_chat_template_renders_tools_and_plain_turns() -> None:
    jinja2 = pytest.importorskip("jinja2")
    text = render(CHAT).llm_config["engine_kwargs"]["chat_template"]
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(text)
    plain = template.render(messages=[{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert plain == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42"},
    ]
    full = template.render(
        messages=turns, tools=[{"type": "function", "function": {"name": "f"}}], add_generation_prompt=True
    )
    assert '<tools>\n{"name": "f"}\n</tools>' in full
    assert '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>' in full
    assert "<tool_response>\n42\n</tool_response>" in full


@pytest.mark.parametrize("name", READY_MADE)
def test_every_ready_made_deployment_fits_a_small_machine(name: str) -> None:
    assert render(READY_MADE[name], NO_GPU).device == "cpu"


def test_ears_and_a_voice() -> None:
    ears = render(
        TRANSCRIPTION.model_copy(update={"max_num_seqs": 2, "engine_args": {"beam_size": 1}}), NO_GPU
    )
    assert ears.llm_config["engine_kwargs"] == {"compute_type": "default", "streams": 2, "beam_size": 1}
    assert render(TRANSCRIPTION.model_copy(update={"device": "auto"}), GPUS).device == "gpu"
    voice = render(SPEECH.model_copy(update={"device": "auto", "engine_args": {"noise_scale": 1}}), GPUS)
    assert (voice.device, voice.llm_config["engine_kwargs"]) == ("cpu", {"noise_scale": 1})
    assert voice.serve_options["placement_group_bundles"] == [{"CPU": 1}]


@pytest.mark.parametrize("task", [Task.EMBED, Task.RERANK, Task.CLASSIFY, Task.MODERATE])
def test_what_is_not_generated_is_pooled(task: Task) -> None:
    assert render(spec(task=task), NO_GPU).llm_config["engine_kwargs"]["runner"] == "pooling"

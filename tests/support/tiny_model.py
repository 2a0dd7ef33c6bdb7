"""A language model of five million random parameters, and LoRA adapters for it: real files for a real engine, made in seconds.

Its words mean nothing, but equal input gives equal output, and an adapter changes it. The tokenizer is that of the folder given.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

LAYERS, HIDDEN, HEADS = 2, 128, 2  # heads of 64: the CPU kernels know no smaller than 32


def make_model(folder: Path, tokenizer_from: Path) -> Path:
    """A Llama in Hugging Face's layout."""
    import torch  # noqa: PLC0415  (seconds of import, only where engines are tested)
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415  (as above)

    folder.mkdir(parents=True)
    for path in tokenizer_from.iterdir():
        if path.name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "chat_template")):
            shutil.copy(path, folder / path.name)
    source = json.loads((tokenizer_from / "config.json").read_text())
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=source["vocab_size"],
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 2,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2048,
        bos_token_id=source.get("bos_token_id"),
        eos_token_id=source.get("eos_token_id"),
        tie_word_embeddings=True,
        initializer_range=0.5,
    )
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def make_adapter(folder: Path, *, seed: int, rank: int = 4) -> Path:
    """A LoRA adapter of `make_model`'s model, in PEFT's layout, strong enough to change what it says."""
    import torch  # noqa: PLC0415  (as above)
    from safetensors.torch import save_file  # noqa: PLC0415  (as above)

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(LAYERS):
        for name in ("q_proj", "v_proj"):
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{place}.lora_A.weight"] = torch.randn(rank, HIDDEN, generator=generator)
            tensors[f"{place}.lora_B.weight"] = torch.randn(HIDDEN, rank, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank * 4, "lora_dropout": 0.0, "bias": "none",
        "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "tiny",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder

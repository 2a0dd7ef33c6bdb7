"""GGUF to safetensors: dequantised weights in float32, tokenizer, chat template, configurations.

    python -m foundry.catalog.gguf FILE.gguf FOLDER

It imports torch and transformers, so it runs as a child process (`child.py`). float32 holds every
dequantised value as the quantised file defines it; bfloat16 would round them. What it does not know: where the file came from.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def convert(source: Path, folder: Path) -> None:
    """Write the model of one GGUF file to `folder` in Hugging Face's layout."""
    import torch  # noqa: PLC0415 (seconds of import that only this process pays)
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415 (as above)

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer.model_max_length = (
        model.config.max_position_embeddings
    )  # GGUF has no such field: it comes out as 1e30
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_local_name(folder / "config.json")


def _drop_local_name(path: Path) -> None:
    """Keep out what the quantiser called it and where it lay, so that equal weights give equal files."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_model_name_or_path", None)
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))

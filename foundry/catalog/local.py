"""`file:///path`: a model folder that already lies on this machine, used in place.

What it does not know: other schemes. The folder is hashed once; the digest is kept and trusted
while sizes and times stand.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from foundry.catalog import manifest
from foundry.catalog.layouts import require_loadable
from foundry.catalog.model import LocalModel, Report
from foundry.catalog.store import Store, slug
from foundry.errors import ModelSourceError


class FileSource:
    """Existing folders."""

    def obtain(self, uri: str, store: Store, report: Report, *, full: bool) -> LocalModel:
        """The folder itself; content may change under us, so a changed folder simply gets a new digest."""
        parts = urlsplit(uri)
        folder = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost"):
            raise ModelSourceError(
                f"{uri!r} names a host ({parts.netloc}): write file:///absolute/path", param="model"
            )
        if not folder.is_dir():
            raise ModelSourceError(f"{uri!r}: there is no folder {folder} on this machine", param="model")
        require_loadable(folder, uri)
        record = store.root / "file" / f"{slug(str(folder))}.json"
        known = None if full else manifest.read(record)
        found = manifest.scan(folder, f"file://{folder}", report, known)
        if found != known:
            record.parent.mkdir(parents=True, exist_ok=True)
            manifest.write(record, found)
        return found.local_model(uri, folder)

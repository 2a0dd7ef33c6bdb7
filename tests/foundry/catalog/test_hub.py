"""`hf://` against a loopback hub: the client library is real, the hub is a few routes that speak its protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "a" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"w" * 4096,
    "tokenizer.json": b"{}",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
}


class Hub(BaseHTTPRequestHandler):
    """`/api/models/{repo}/revision/{rev}`, `/tree/`, and `/{repo}/resolve/{commit}/{file}`."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        if "/api/models/org/tiny/tree/" in self.path:
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha256(data).hexdigest()}
                for name, data in FILES.items()
            ]
            self._json(200, rows)
        elif self.path.startswith("/api/models/org/tiny"):
            siblings = [{"rfilename": name} for name in FILES]
            self._json(200, {"id": "org/tiny", "sha": COMMIT, "siblings": siblings})
        elif self.path.startswith("/api/"):
            self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        else:
            self._file(with_body=True)

    def _file(self, *, with_body: bool) -> None:
        data = FILES.get(self.path.rpartition(f"/resolve/{COMMIT}/")[2])
        if data is None:
            self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        etag = hashlib.sha256(data).hexdigest()
        self._send(200, data if with_body else b"", len(data), {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _json(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._send(status, body, len(body), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
        del format, args


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def pull(endpoint: str, uri: str, home: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the library reads HF_ENDPOINT when it is imported."""
    command = [sys.executable, "-m", "foundry.catalog", "pull", uri, "--home", str(home)]
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_branch_becomes_a_commit_and_neither_code_nor_pickles_come_along(hub: str, tmp_path: Path) -> None:
    done = pull(hub, "hf://org/tiny@main", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert folder == tmp_path / "models" / "hf" / f"org--tiny@{COMMIT}" / "model"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    again = pull("http://127.0.0.1:9", "hf://org/tiny", tmp_path)  # port 9 is closed: no hub in reach
    assert again.stdout.splitlines()[-1] == str(folder), again.stderr


def test_a_repository_that_is_not_there(hub: str, tmp_path: Path) -> None:
    done = pull(hub, "hf://org/none", tmp_path)
    assert done.returncode == 1
    assert "hf://org/none@main: the hub answered" in done.stderr


def test_no_hub_and_no_copy(tmp_path: Path) -> None:
    done = pull("http://127.0.0.1:9", "hf://org/tiny", tmp_path)
    assert done.returncode == 1
    assert "no hub is in reach" in done.stderr

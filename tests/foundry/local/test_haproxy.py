"""The wrapper around HAProxy, with Ray's own template and the real binary."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from foundry.local.haproxy import bundled_binary, write_wrapper

# As ray 2.60's template begins (ray/serve/_private/haproxy_templates.py).
CONFIG = """global
    maxconn 100
defaults
    mode http
    option log-health-checks
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend prometheus
    bind :{metrics}
    mode http
    no log
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend nobody
backend nobody
    http-request return status 404
listen stats
  bind *:{stats}
  stats enable
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_listeners_become_local_and_callers_are_told_once(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format(metrics=9101, port=8000, stats=8404))
    wrapper = write_wrapper(tmp_path / "haproxy")
    for _ in range(2):  # Ray has a configuration checked before it is loaded
        command = [str(wrapper), "-c", "-f", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in config.read_text().splitlines()]
    assert [line for line in lines if line.startswith("bind")] == [
        "bind 127.0.0.1:9101",
        "bind 127.0.0.1:8000",
        "bind 127.0.0.1:8404",
    ]
    assert lines.count("option forwardfor") == 1
    assert lines[lines.index("defaults") + 2] == "option forwardfor"


def test_the_template_is_still_the_one_that_is_edited() -> None:
    """Ray's template is not a contract: a new version must not silently stop telling who called."""
    text = (bundled_template()).read_text()
    head = text[text.index("\ndefaults\n") :].splitlines()
    assert head[2] == "    mode http"
    assert "\nfrontend prometheus\n    bind :{{" in text
    assert "bind *:{{ config.stats_port }}" in text


def bundled_template() -> Path:
    ray = pytest.importorskip("ray")
    return Path(ray.__file__).parent / "serve" / "_private" / "haproxy_templates.py"


def test_the_binary_is_the_wheels() -> None:
    assert bundled_binary().name == "haproxy"

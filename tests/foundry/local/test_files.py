"""Secrets, identity, markers, wrapper: what lies on disk, and with which mode."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from foundry.errors import ConfigurationError
from foundry.gateway.signing import private_key_from_pem, public_key_from_pem, public_key_id
from foundry.local import haproxy, instance, registration, secrets
from foundry.local.files import is_locked, try_lock, write_atomically
from foundry.local.instance import Layout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_closed(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home")
    layout.make()
    made = secrets.ensure(layout.secrets)
    assert {"admin.key", "key_pepper", "ray.token", "snapshot_signing.pem", "snapshot_public.pem"} <= set(
        made
    )
    secrets.write_database_url(layout.secrets, 20001)
    assert mode(layout.secrets) == 0o700
    assert {mode(path) for path in layout.secrets.iterdir()} == {0o600}
    before = {path.name: path.read_bytes() for path in layout.secrets.iterdir()}
    assert secrets.ensure(layout.secrets) == []
    assert {path.name: path.read_bytes() for path in layout.secrets.iterdir()} == before
    private = private_key_from_pem((layout.secrets / "snapshot_signing.pem").read_text())
    public = public_key_from_pem((layout.secrets / "snapshot_public.pem").read_text())
    assert public_key_id(private.public_key()) == public_key_id(public)
    assert "@127.0.0.1:20001/foundry" in (layout.secrets / "database_url").read_text()


def test_half_a_key_pair_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    secrets.ensure(layout.secrets)
    (layout.secrets / "snapshot_signing.pem").unlink()
    with pytest.raises(ConfigurationError, match=r"snapshot_signing\.pem is missing"):
        secrets.ensure(layout.secrets)


def test_identity_survives_and_damage_is_named(tmp_path: Path) -> None:
    made = instance.load_or_create(tmp_path / "home")
    assert instance.load_or_create(tmp_path / "home") == made
    assert len(str(made.temp_dir / "h" / ("x" * 56) / "m.sock")) <= 97  # HAProxy's limit
    made.layout.instance_file.write_text("{")
    with pytest.raises(ConfigurationError, match=r"instance\.json is damaged"):
        instance.load(tmp_path / "home")


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = try_lock(path)
    assert held is not None
    assert try_lock(path) is None
    assert is_locked(path)
    os.close(held)
    assert not is_locked(path)


def test_registration_is_due_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    first = registration.wanted(layout, models=True, model_uris=())
    assert first.register
    assert len(first.pull) == 2
    assert not registration.wanted(layout, models=False, model_uris=()).register
    registration.remember(layout.registered_file, ["smollm2", "minilm"])
    assert not registration.wanted(layout, models=True, model_uris=()).register
    again = registration.wanted(layout, models=True, model_uris=("file:///m",))
    assert again.register
    assert again.pull == ("file:///m",)


def test_an_own_model_replaces_the_default_chat_model(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    wanted = registration.wanted(layout, models=True, model_uris=("hf://org/name",))
    assert wanted.pull[0] == "hf://org/name"
    assert len(wanted.pull) == 2
    assert "minilm" in wanted.pull[1].lower()


def test_the_wrapper_narrows_open_listeners_and_becomes_haproxy(tmp_path: Path) -> None:
    binary = tmp_path / "real"
    write_atomically(binary, b'#!/bin/sh\necho "pid $$ args $@"\n', mode=0o700)
    configuration = tmp_path / "haproxy.cfg"
    lines = [
        "frontend a",
        "    bind :9101",
        "  bind *:8404",
        "    bind 127.0.0.1:8000",
        "    bind *:9000 proto h2",
        "# bind :1",
        "    option splice-request",
        "    option splice-response",
        "    option http-no-delay",
    ]
    configuration.write_text("\n".join(lines))
    wrapper = haproxy.write_wrapper(tmp_path / "haproxy", binary)
    command = [str(wrapper), "-db", "-f", str(configuration), "-sf", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=5)
    assert said == f"pid {process.pid} args -db -f {configuration} -sf 1\n"
    binds = [
        line.split()[1] for line in configuration.read_text().splitlines() if line.strip().startswith("bind")
    ]
    assert binds == ["127.0.0.1:9101", "127.0.0.1:8404", "127.0.0.1:8000", "127.0.0.1:9000"]
    options = [line.strip() for line in configuration.read_text().splitlines() if "option" in line]
    assert options == ["option http-no-delay"]


def test_the_bundled_haproxy_is_found() -> None:
    done = subprocess.run([haproxy.bundled_binary(), "-v"], capture_output=True, text=True, check=True)
    assert "HAProxy" in done.stdout

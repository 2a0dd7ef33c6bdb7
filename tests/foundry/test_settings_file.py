"""The settings part of `foundry.toml`: read, laid under the environment, and refused with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry import settings
from foundry.errors import ConfigurationError


def test_the_file_lies_under_the_environment(foundry_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[gateway]\nmax_body_bytes = 2048\ncluster = "file"\n[routes.x]\nnot = "checked here"\n'
    (foundry_home / "foundry.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("FOUNDRY_GATEWAY__CLUSTER", "environment")
    loaded = settings.load()
    assert (loaded.gateway.max_body_bytes, loaded.gateway.cluster) == (2048, "environment")
    assert loaded.config_file == foundry_home / "foundry.toml"


def test_foundry_config_names_another_file(
    foundry_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.toml"
    other.write_text('log_level = "DEBUG"\n', encoding="utf-8")
    monkeypatch.setenv("FOUNDRY_CONFIG", str(other))
    loaded = settings.load()
    assert (loaded.log_level, loaded.config_file, loaded.home) == ("DEBUG", other, foundry_home)


def test_every_problem_is_told_with_its_place(foundry_home: Path) -> None:
    file = foundry_home / "foundry.toml"
    file.write_text("[gatway]\n[gateway]\nconnect_timeout_s = 'x'\nspool = 1\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        settings.load()
    assert (
        refused.value.message.splitlines()
        == [
            f"{file}:1:2: error: gatway: unknown table; did you mean 'gateway'?",
            f'{file}:3:21: error: gateway.connect_timeout_s = "x": input should be a valid number, unable to parse string as a number',
            f"{file}:4:1: error: gateway.spool: unknown key; did you mean 'spool_max_bytes'?",
        ]
        or "spool_" in refused.value.message
    )


def test_a_wrong_variable_is_named(foundry_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_CONTROL__PORT", "eighty")
    with pytest.raises(ConfigurationError, match="FOUNDRY_CONTROL__PORT"):
        settings.load()

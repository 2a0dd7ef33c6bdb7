"""Every vendor row is usable; a missing secret names its variable."""

from __future__ import annotations

import pytest

from foundry.errors import ConfigurationError
from foundry.providers.vendors import vendor, vendors


@pytest.mark.parametrize("name", sorted(vendors()))
def test_a_row_works_once_its_secret_is_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = vendor(name)
    monkeypatch.delenv(row.secret_env, raising=False)
    with pytest.raises(ConfigurationError, match=row.secret_env):
        row.secret()
    monkeypatch.setenv(row.secret_env, " sk-1 ")
    assert row.secret() == "sk-1"
    assert row.base_url.startswith("https://")


def test_an_unknown_vendor_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="openai"):
        vendor("nobody")

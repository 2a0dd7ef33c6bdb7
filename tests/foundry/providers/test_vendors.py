"""Every row is well-formed and sourced; the operator's rows go over the shipped ones; mistakes name row and field."""

from __future__ import annotations

import pytest

from foundry.codecs import CODECS
from foundry.errors import ConfigurationError
from foundry.providers.vendors import Vendor, merged, vendor, vendors


@pytest.mark.parametrize("name", sorted(vendors()))
def test_a_row_is_sourced_and_works_once_its_secret_is_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = vendor(name)
    assert "." in row.source
    assert row.read is not None
    assert row.base_url is None or row.base_url.startswith(("https://", "http://127.0.0.1"))
    if row.secret_env is None:
        assert row.secret() is None
        return
    monkeypatch.delenv(row.secret_env, raising=False)
    if row.secret_required and row.auth != "aws-sigv4":
        with pytest.raises(ConfigurationError, match=row.secret_env):
            row.secret()
    else:
        assert row.secret() is None
    monkeypatch.setenv(row.secret_env, " sk-1 ")
    assert row.secret() == "sk-1"


def test_there_are_twenty_and_more_that_speak_openai() -> None:
    assert sum("openai" in row.wires for row in vendors().values()) >= 20


def test_an_unknown_vendor_lists_the_known_ones_and_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match=r"openai.*\[providers\.nobody\]"):
        vendor("nobody")


def test_an_operators_row_changes_single_fields_and_adds_providers() -> None:
    table = merged(
        {
            "bedrock": {"options": {"profile": "prod"}},
            "openai": {"base_url": "https://eu.api.openai.com"},
            "mine": {"title": "Mine", "base_url": "http://10.0.0.7:8000", "wires": ["openai", "anthropic"]},
        }
    )
    assert table["bedrock"].options == {"region": "us-east-1", "profile": "prod"}
    assert table["openai"].base_url == "https://eu.api.openai.com"
    assert table["openai"].secret_env == "OPENAI_API_KEY"
    assert table["mine"].source == "operator"
    assert vendors()["openai"].base_url == "https://api.openai.com"  # the shipped table is untouched


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ({"title": "x", "base_url": "ftp://x.example"}, r"providers\.mine\.base_url"),
        ({"title": "x", "base_url": "https://x.example/"}, r"providers\.mine\.base_url"),
        ({"title": "x", "auth": "magic"}, r"providers\.mine\.auth"),
        ({"title": "x", "wires": ["smoke-signals"]}, r"providers\.mine\.wires"),
        ({"title": "x", "colour": "blue"}, r"providers\.mine\.colour"),
        ({"title": "x", "surfaces": {"anthropic": {}}}, r"does not speak: anthropic"),
    ],
)
def test_a_wrong_row_is_refused_by_name(row: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigurationError, match=where):
        merged({"mine": row})


def test_surfaces_are_of_wires_that_are_spoken() -> None:
    for row in vendors().values():
        assert set(row.surfaces) <= set(row.wires)
    assert isinstance(vendor("deepseek"), Vendor)


def test_the_protocols_of_a_surface_are_ones_that_callers_speak() -> None:
    spoken = {codec.name for codec in CODECS.values()}
    said = {
        name for row in vendors().values() for one in row.surfaces.values() for name in one.protocols or ()
    }
    assert said
    assert said <= spoken

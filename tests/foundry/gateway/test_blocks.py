"""Blocking rules: who is matched, by what address, and that a refused caller is refused before anything else."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import mmdb_writer
import netaddr
import pytest

from foundry.errors import CallerBlocked, ConfigurationError
from foundry.gateway.blocks import Blocks, Caller, Countries, Networks, caller_of, check_rule
from foundry.types.guardrails import BlockRule
from tests.foundry.gateway.guardrails.conftest import MakeRig, guarded

__all__ = ["guarded"]  # the fixture

LOOPBACK = Networks(("127.0.0.0/8", "::1/128"))


def _rule(**fields: Any) -> BlockRule:
    return BlockRule(name="rule", **fields)


def _refuses(
    rule: BlockRule, address: str | None, agent: str = "", countries: Countries | None = None
) -> bool:
    caller = Caller(ip_address(address) if address else None, agent)
    try:
        Blocks([rule], countries).check(caller)
    except CallerBlocked:
        return True
    return False


@pytest.fixture(scope="module")
def countries(tmp_path_factory: pytest.TempPathFactory) -> Countries:
    writer = mmdb_writer.MMDBWriter(6, "GeoLite2-Country", languages=["en"], ipv4_compatible=True)
    writer.insert_network(netaddr.IPSet(["192.0.2.0/24"]), {"country": {"iso_code": "FR"}})
    writer.insert_network(netaddr.IPSet(["198.51.100.0/24"]), {"registered_country": {"iso_code": "DE"}})
    writer.insert_network(netaddr.IPSet(["2001:db8::/32"]), {"country": {"iso_code": "JP"}})
    path = tmp_path_factory.mktemp("geo") / "country.mmdb"
    writer.to_db_file(str(path))
    return Countries(path)


def test_networks_of_both_families_and_of_every_length() -> None:
    networks = Networks(("10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "203.0.113.9/31"))
    inside = ("10.255.0.1", "192.0.2.7", "2001:db8::1", "203.0.113.8", "203.0.113.9")
    outside = ("11.0.0.1", "192.0.2.8", "2001:db9::1", "203.0.113.10", "::a00:1")
    assert [text for text in inside if ip_address(text) not in networks] == []
    assert [text for text in outside if ip_address(text) in networks] == []
    assert ip_address("1.2.3.4") in Networks(("0.0.0.0/0",))


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'10\.0\.0\.0/99'"):
        Networks(("10.0.0.0/99",))


def test_all_conditions_of_a_rule_must_hold() -> None:
    rule = _rule(cidrs=("10.0.0.0/8",), user_agent="(?i)^curl/")
    assert _refuses(rule, "10.1.1.1", "Curl/8")
    assert not _refuses(rule, "10.1.1.1", "python")
    assert not _refuses(rule, "11.1.1.1", "curl/8")
    assert not _refuses(rule, None, "curl/8")


def test_an_allow_list_refuses_everybody_else_and_whoever_is_not_known() -> None:
    rule = _rule(cidrs=("10.0.0.0/8",), allow=True)
    assert not _refuses(rule, "10.1.1.1")
    assert _refuses(rule, "11.1.1.1")
    assert _refuses(rule, None)


def test_countries(countries: Countries) -> None:
    rule = _rule(countries=("fr", "JP"))
    found = {
        address: _refuses(rule, address, countries=countries)
        for address in ("192.0.2.1", "198.51.100.1", "2001:db8::5", "8.8.8.8")
    }
    assert found == {"192.0.2.1": True, "198.51.100.1": False, "2001:db8::5": True, "8.8.8.8": False}
    assert _refuses(_rule(countries=("DE",)), "198.51.100.1", countries=countries)  # where it is registered
    only = _rule(countries=("FR",), allow=True)
    assert not _refuses(only, "192.0.2.1", countries=countries)
    assert _refuses(only, "8.8.8.8", countries=countries)


def test_without_a_database_an_allow_list_of_countries_lets_nobody_in() -> None:
    assert _refuses(_rule(countries=("FR",), allow=True), "192.0.2.1")
    assert not _refuses(_rule(countries=("FR",)), "192.0.2.1")


def test_a_rule_that_cannot_be_compiled_fails_to_the_safe_side() -> None:
    assert _refuses(_rule(cidrs=("nonsense",), allow=True), "10.0.0.1")
    assert not _refuses(_rule(user_agent="("), "10.0.0.1", "(")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "no condition"),
        ({"cidrs": ("x",)}, "'x' is not an address"),
        ({"user_agent": "(?=a)"}, "RE2"),
        ({"countries": ("FR",)}, "gateway.country_database"),
    ],
)
def test_a_rule_that_could_never_match_is_refused_when_it_is_made(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        check_rule(_rule(**fields), has_countries=False)
    check_rule(_rule(cidrs=("10.0.0.0/8",), countries=("FR",)), has_countries=True)


def test_a_country_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.mmdb").write_bytes(b"nonsense")
    for name in ("x.mmdb", "missing.mmdb"):
        with pytest.raises(ConfigurationError, match=r"gateway\.country_database"):
            Countries(tmp_path / name)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "10.0.0.1", "203.0.113.5"),  # not a proxy of ours: what it says is not believed
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "10.9.9.9, 198.51.100.1", "198.51.100.1"),  # the caller wrote the first one itself
        ("127.0.0.1", "198.51.100.1, 127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("127.0.0.1", "10.9.9.9\n198.51.100.1", "198.51.100.1"),  # the caller's line, and HAProxy's behind it
        ("127.0.0.1", "198.51.100.1\n127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("::ffff:203.0.113.5", "", "203.0.113.5"),
    ],
)
def test_the_callers_address(peer: str, forwarded: str, address: str) -> None:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded.split("\n") if line]
    assert caller_of({"client": (peer, 1), "headers": headers}, {}, LOOPBACK).address == ip_address(address)


def test_a_caller_without_an_address_is_nobody() -> None:
    assert caller_of({"client": None}, {}, LOOPBACK) == Caller(None, "")


async def test_a_blocked_caller_gets_403_and_a_record_before_its_key_is_looked_at(guarded: MakeRig) -> None:
    rig = await guarded(
        blocks=(
            BlockRule(name="scrapers", user_agent="(?i)scraper"),
            BlockRule(name="abroad", cidrs=("203.0.113.0/24",)),
            BlockRule(name="inner", cidrs=("198.51.100.0/24",), routes=("open",)),
        )
    )
    body = {"model": "open", "messages": [{"role": "user", "content": "hi"}]}

    async def ask(path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(base_url=rig.url, headers=named) as client:
            return await client.post(path, json=body)

    for headers in ({"user_agent": "EvilScraper/1"}, {"x_forwarded_for": "203.0.113.77"}):
        response = await ask(**headers)  # without a key
        assert (response.status_code, response.json()["error"]["code"]) == (403, "caller_blocked")
    assert (await ask(path="/v1/models", user_agent="scraper")).status_code == 403
    assert (await ask()).status_code == 401
    key = f"Bearer {rig.keys['plain']}"
    assert (await ask(authorization=key, x_forwarded_for="198.51.100.1")).status_code == 403
    assert (await ask(authorization=key, x_forwarded_for="192.0.2.1")).status_code == 200
    assert len(rig.echo.requests) == 1
    records = rig.records()
    assert [(r["status"], r.get("error_code", "")) for r in records] == [
        (403, "caller_blocked"), (403, "caller_blocked"), (403, "caller_blocked"), (401, "invalid_api_key"),
        (403, "caller_blocked"), (200, ""),
    ]  # fmt: skip

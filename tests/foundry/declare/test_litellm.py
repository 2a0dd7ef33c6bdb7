"""A LiteLLM configuration becomes a file that passes `check`, and nothing in it is dropped in silence."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from foundry.cli.app import app
from foundry.declare.check import check
from foundry.declare.litellm.convert import Converted, convert
from foundry.declare.litellm.reasons import explain, patterns
from foundry.errors import ConfigurationError

pytestmark = pytest.mark.long

CONFIGS = Path(__file__).parent / "litellm_configs"
EVERYTHING = (CONFIGS / "everything.yaml").read_text(encoding="utf-8")


def tables(text: str) -> dict[str, Any]:
    converted = convert(text)
    checked = check(converted.toml)
    assert checked.ok, [problem.render("out.toml") for problem in checked.errors]
    return tomllib.loads(converted.toml)


def test_what_has_an_equivalent_is_taken_over() -> None:
    made = tables(EVERYTHING)
    chat = made["routes"]["gpt-4o"]
    assert [(one["model"], one["weight"], one["max_concurrency"]) for one in chat["targets"]] == [
        ("gpt-4o-eu", 600, 20),
        ("gpt-4o-us", 300, 50),
        ("gpt-4o", 60, 50),
    ]
    assert chat["routing"]["policy"] == "lowest_ttft"
    assert chat["routing"]["fallbacks"] == ["claude", "gemini-flash"]
    assert chat["routing"]["timeouts"] == {"first_byte_s": 45, "between_chunks_s": 15}
    eu = made["providers"][chat["targets"][0]["provider"]]
    assert (eu["secret_env"], eu["base_url"]) == ("AZURE_API_KEY_EU", "https://contoso-eu.openai.azure.com")
    assert eu["options"]["api_version"] == "2024-08-01-preview"
    (claude,) = made["routes"]["claude"]["targets"]
    assert (claude["price"]["input_per_mtok_usd"], claude["price"]["output_per_mtok_usd"]) == (3, 15)
    assert made["routes"]["embed"]["task"] == "embed"
    assert made["routes"]["gpt-4"]["targets"] == chat["targets"]
    assert made["limits"]["gpt-4o-tpm"]["routes"] == [
        "gpt-4o",
        "gpt-4",
    ]  # another name is no way round a limit
    assert made["limits"]["budget"] == {
        "meter": "usd",
        "scope": "organization",
        "amount": 500,
        "window": "month",
    }
    assert made["blocks"]["allowed-ips"]["allow"] is True
    assert made["routes"]["llama"]["targets"][0]["base_url"] == "http://vllm.internal:8000"
    odd = made["providers"][made["routes"]["odd-gateway"]["targets"][0]["provider"]]
    assert (odd["prefix"], odd["base_url"]) == ("", "https://models.example.com/serving")


def test_no_secret_is_copied() -> None:
    converted = convert(EVERYTHING)
    assert "sk-ant" not in converted.toml + str(converted.remarks)


def test_remarks_have_lines_and_say_what_to_do() -> None:
    lines = EVERYTHING.splitlines()
    for remark in convert(EVERYTHING).remarks:
        assert remark.reason
        assert remark.instead
        last = remark.path.rsplit(".", 1)[-1].partition("[")[0]
        assert last in lines[remark.line - 1] or "[" in remark.path, remark
    dropped = {remark.path for remark in convert(EVERYTHING).remarks if remark.dropped}
    expected = {
        "general_settings.master_key",
        "router_settings.retry_policy.TimeoutErrorRetries",
        "model_list[6]",
        "an_invented_section.x.y",
        "general_settings.an_invented_key",
        "router_settings.fallbacks[2].nowhere",
    }
    assert expected <= dropped


def leaves(values: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    inner = [leaf for key, value in items for leaf in leaves(value, (*path, key))]
    yield from inner or [path]


def shape(converted: Converted) -> tuple[str, frozenset[tuple[str, str]]]:
    return converted.toml, frozenset((remark.path, remark.reason) for remark in converted.remarks)


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 1
    return f"{value}x"


def test_every_key_matters_or_is_reported() -> None:
    """Changing the value of any leaf that no remark is about changes what comes out: nothing is swallowed."""
    values = yaml.safe_load(EVERYTHING)
    before = convert(yaml.safe_dump(values))
    reported = [remark.path for remark in before.remarks]
    silent: list[str] = []
    for leaf in leaves(values):
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in leaf).lstrip(".")
        if any(dotted == path or dotted.startswith((f"{path}.", f"{path}[")) for path in reported):
            continue
        other = copy.deepcopy(values)
        place = other
        for part in leaf[:-1]:
            place = place[part]
        place[leaf[-1]] = changed(place[leaf[-1]])
        if shape(convert(yaml.safe_dump(other))) == shape(before):
            silent.append(dotted)
    assert silent == []


def test_no_reason_is_shadowed_by_an_earlier_one() -> None:
    seen: list[str] = []
    for pattern in patterns():
        example = tuple(pattern.replace("*", "zz").split("."))
        assert explain(example)[1], pattern
        assert pattern not in seen
        seen.append(pattern)


@pytest.mark.parametrize("text", ["", "{}", "model_list: []"])
def test_an_empty_configuration_is_an_empty_file(text: str) -> None:
    assert tables(text) == {}


def test_what_is_no_configuration_is_an_error() -> None:
    for text in ("- a list", "a: [", "just words"):
        with pytest.raises(ConfigurationError, match=r"c\.yaml"):
            convert(text, "c.yaml")


def test_anchors_merges_and_groups_of_one_model_twice() -> None:
    text = """
common: &common
  api_key: os.environ/OPENAI_API_KEY
model_list:
  - model_name: a
    litellm_params: {<<: *common, model: gpt-4o-mini, weight: 2}
  - model_name: a
    litellm_params: {<<: *common, model: openai/gpt-4o-mini, api_base: "https://eu.api.openai.com/v1"}
"""
    made = tables(text)
    assert [one.get("base_url") for one in made["routes"]["a"]["targets"]] == [
        None,
        "https://eu.api.openai.com",
    ]


ODD = (None, -1, "x", [], {}, [1], {"a": 1}, True, "os.environ/X", 1.5, "", ["a", {"b": 1}])


def test_odd_values_anywhere_are_reported_and_never_a_traceback() -> None:
    """Every value of the configuration in turn becomes one that it should not be."""
    values = yaml.safe_load(EVERYTHING)
    for number, leaf in enumerate(leaves(values)):
        other = copy.deepcopy(values)
        place = other
        for part in leaf[:-1]:
            place = place[part]
        place[leaf[-1]] = ODD[number % len(ODD)]
        check(convert(yaml.safe_dump(other)).toml)


def test_the_command_writes_the_file_and_the_report(tmp_path: Path) -> None:
    out = tmp_path / "foundry.toml"
    said = CliRunner().invoke(
        app, ["gateway", "import", "litellm", str(CONFIGS / "everything.yaml"), "-o", str(out)]
    )
    assert said.exit_code == 0, said.output
    assert "everything.yaml:141: left out: general_settings.master_key" in said.stderr
    assert CliRunner().invoke(app, ["gateway", "check", str(out)]).exit_code == 0

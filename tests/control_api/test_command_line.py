"""`foundry routes|limits|guardrails|blocks|providers` and `foundry keys` against a real control API process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from typer.testing import CliRunner, Result

from foundry.cli.app import app
from foundry.client import ControlClient
from foundry.errors import Conflict, InvalidParameter
from foundry.local import instance as instances
from foundry.local.files import try_lock
from foundry.local.instance import Ports
from foundry.settings import Settings
from foundry.types.deployment import DeploymentSpec
from foundry.types.guardrails import BlockRule, GuardEntry, GuardrailProfile
from foundry.types.limits import LimitEntry
from tests.control_api.test_process_and_sdk import process, wait_ready

pytestmark = pytest.mark.postgres
__all__ = ["process"]
Process = tuple[subprocess.Popen[bytes], str]


@pytest.fixture
def control(process: Process, settings: Settings) -> Iterator[ControlClient]:
    started, url = process
    with ControlClient(url, settings.secret("admin.key")) as client:
        wait_ready(started, client)
        yield client


@pytest.fixture
def home(control: ControlClient, process: Process, settings: Settings) -> Iterator[Path]:
    """The instance as the command line finds it: known ports, and a supervisor that holds its lock."""
    made = instances.load_or_create(settings.home)
    port = urlsplit(process[1]).port or 0
    made = msgspec.structs.replace(made, ports=Ports(serve=8000, control=port, dashboard=8265, block=20_000))
    made.save()
    made.layout.supervisor_lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = try_lock(made.layout.supervisor_lock)
    assert descriptor is not None
    yield settings.home
    os.close(descriptor)


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)])


def good(home: Path, *words: str) -> str:
    said = run(home, *words)
    assert said.exit_code == 0, (words, said.exception)
    return said.stdout


def test_a_deployment_comes_with_routes_of_its_adapters(home: Path, control: ControlClient) -> None:
    spec = DeploymentSpec(
        name="m",
        model="file:///m",
        served_model_name="prose",
        adapters={"verse": "file:///v", "song": "file:///s"},
    )
    file = home / "m.json"
    file.write_text(spec.model_dump_json(), encoding="utf-8")
    good(home, "deployments", "add", str(file))
    good(home, "routes", "set", "lyrics", "--target", "engine/m/song=2", "--target", "engine/m")
    made = {
        route.name: [getattr(target, "target_id", "") for target in route.targets]
        for route in control.routes.list()
    }
    assert made == {
        "prose": ["engine/m"],
        "verse": ["engine/m/verse"],
        "song": ["engine/m/song"],
        "lyrics": ["engine/m/song", "engine/m"],
    }
    assert "engine/m/verse" in good(home, "models")
    good(home, "deployments", "remove", "m")
    assert control.routes.list() == []


def test_everything_can_be_set_listed_shown_and_removed(home: Path, control: ControlClient) -> None:
    good(home, "guardrails", "set", "house", "--guard", "secrets:redact:input,output")
    good(home, "routes", "set", "backup", "--target", "openai/gpt-4o-mini")
    targets = ("--target", "openai/gpt-4o=3", "--target", "groq/llama-3.1-8b-instant")
    more = ("--policy", "weighted", "--fallback", "backup", "--guardrail", "house", "--cache-ttl", "60")
    good(home, "routes", "set", "chat", *targets, *more)
    route = control.routes.get("chat")
    assert [target.weight for target in route.targets] == [3, 1]
    assert (route.routing.policy, route.routing.fallbacks, route.guardrails) == (
        "weighted",
        ("backup",),
        ("house",),
    )
    assert route.cache is not None
    budget = (
        "--meter",
        "usd",
        "--scope",
        "project",
        "--amount",
        "250",
        "--window",
        "month",
        "--route",
        "chat",
    )
    good(home, "limits", "set", "budget", *budget)
    good(home, "blocks", "set", "lan", "--cidr", "10.0.0.0/8", "--allow")
    key = good(home, "keys", "create", "ci", "--guardrail", "house").strip()
    assert key.startswith("fk-")
    assert "250 usd per month for each project on chat" in good(home, "limits", "list")
    assert [row["name"] for row in json.loads(good(home, "routes", "list", "--json"))] == ["chat", "backup"]
    assert json.loads(good(home, "guardrails", "show", "house"))["spec"]["guards"][0]["stages"] == [
        "input",
        "output",
    ]
    assert "openai" in good(home, "providers")
    in_use = run(home, "guardrails", "rm", "house")
    assert isinstance(in_use.exception, Conflict)
    for noun, name in (("limits", "budget"), ("routes", "chat"), ("blocks", "lan"), ("routes", "backup")):
        good(home, noun, "rm", name)
    assert control.routes.list() == []


def test_an_entry_may_come_from_a_file(home: Path, control: ControlClient, tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text(
        '[limits.l]\nmeter = "requests"\nscope = "key"\namount = 5\nwindow = "day"\n', encoding="utf-8"
    )
    good(home, "limits", "set", "l", "--from", str(file))
    assert control.limits.get("l").spec.amount == 5
    missing = run(home, "limits", "set", "m", "--from", str(file))
    assert isinstance(missing.exception, InvalidParameter)
    assert "[limits.m]" in str(missing.exception)
    bad = run(home, "routes", "set", "r", "--target", "nothing")
    assert isinstance(bad.exception, InvalidParameter)


def test_the_sdk_knows_the_named_nouns_and_the_file(control: ControlClient) -> None:
    limit = LimitEntry.model_validate(
        {"name": "l", "meter": "tokens", "scope": "user", "amount": 10, "window": "hour"}
    )
    assert control.limits.put(limit).spec == limit
    profile = GuardrailProfile(name="g", guards=(GuardEntry(kind="secrets"),))
    assert control.guardrails.put(profile).spec == profile
    rule = BlockRule(name="b", cidrs=("10.0.0.0/8",))
    assert control.blocks.put(rule).spec == rule
    assert [
        one.name for one in (*control.limits.list(), *control.guardrails.list(), *control.blocks.list())
    ] == [
        "l",
        "g",
        "b",
    ]
    assert control.gateway_config().status == "absent"
    control.limits.delete("l")
    assert control.limits.list() == []

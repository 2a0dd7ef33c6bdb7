"""`check`: all problems of a file at once, each where it is and with the next step."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from foundry.cli.app import app
from foundry.declare.check import check
from foundry.declare.model import GatewayFile
from foundry.declare.rules import Deployed
from foundry.types.deployment import Task

ROOT = Path(__file__).parents[3]
ROUTE = '[routes.r]\ntargets = [{ kind = "provider", provider = "openai", model = "m" }]\n'
EMBED = '[routes.e]\ntask = "embed"\ntargets = [{ kind = "provider", provider = "openai", model = "m" }]\n'
LIMIT = '[limits.l]\nmeter = "requests"\nscope = "key"\namount = 5\nwindow = "minute"\n'

WRONG = {
    # name: (text, line, column, path, words of the message)
    "syntax": ("a = 1\nb = \n", 2, 5, "", "not TOML"),
    "unclosed": ("[a", 1, 3, "", "not TOML"),
    "twice": ("[a]\n[a]\n", 2, 3, "", "twice"),
    "unknown table": ("\n[rutes.x]\n", 2, 2, "rutes", "did you mean 'routes'?"),
    "unknown key at the top": ('log_levl = "INFO"\n', 1, 1, "log_levl", "did you mean 'log_level'?"),
    "unknown setting": ("[gateway]\nmax_body_byts = 1\n", 2, 1, "gateway.max_body_byts", "'max_body_bytes'"),
    "setting of a wrong type": ("[control]\nport = 'x'\n", 2, 8, "control.port", "valid integer"),
    "where the file is": ("config = 'x'\n", 1, 1, "config", "FOUNDRY_CONFIG"),
    "table that is none": ("routes = 3\n", 1, 10, "routes", "[routes.NAME]"),
    "entry that is none": ("[routes]\nr = 3\n", 2, 5, "routes.r", "must be a table"),
    "bad name": (LIMIT.replace("limits.l", "limits.Bad"), 1, 9, "limits.Bad", "no name"),
    "name inside": (LIMIT + 'name = "x"\n', 6, 1, "limits.l.name", "the table's name is its name"),
    "nothing missing but one": (LIMIT.replace("amount = 5\n", ""), 1, 9, "limits.l.amount", "is missing"),
    "unknown key of a target": (
        ROUTE.replace("model =", "modle ="), 2, 54, "routes.r.targets[0].modle", "did you mean 'model'?",
    ),
    "unknown kind of target": (ROUTE.replace('"provider",', '"vendor",'), 2, 21, "routes.r.targets[0].kind", "known are engine, provider"),
    "unknown provider": (ROUTE.replace('"openai"', '"opnai"'), 2, 44, "routes.r.targets[0].provider", "did you mean 'openai'?"),
    "unknown policy": (ROUTE + '[routes.r.routing]\npolicy = "weigted"\n', 4, 10, "routes.r.routing.policy", "'weighted'"),
    "deep unknown key": (ROUTE + "[routes.r.routing.retries]\nattempt = 1\n", 4, 1, "routes.r.routing.retries.attempt", "'attempts'"),
    "unknown task": (ROUTE + 'task = "generat"\n', 3, 8, "routes.r.task", "'generate'"),
    "unknown profile": (ROUTE + 'guardrails = ["h"]\n', 3, 15, "routes.r.guardrails[0]", "no guardrail profile 'h'"),
    "unknown fallback": (ROUTE + 'routing.fallbacks = ["q"]\n', 3, 22, "routes.r.routing.fallbacks[0]", "no route 'q'"),
    "own fallback": (ROUTE + 'routing.fallbacks = ["r"]\n', 3, 22, "routes.r.routing.fallbacks[0]", "its own route"),
    "fallback of another task": (ROUTE + 'routing.fallbacks = ["e"]\n' + EMBED, 3, 22, "routes.r.routing.fallbacks[0]", "has task 'embed'"),
    "overflow": (ROUTE + 'routing.hold.overflow_route = "q"\n', 3, 31, "routes.r.routing.hold.overflow_route", "no route"),
    "embedding route": (
        ROUTE + 'cache = { semantic = { embedding_route = "r2" } }\n' + ROUTE.replace("routes.r", "routes.r2"),
        3, 42, "routes.r.cache.semantic.embedding_route", "needed is 'embed'",
    ),
    "only shadows": (ROUTE.replace('"m"', '"m", shadow_percent = 1'), 2, 11, "routes.r.targets", "leave one"),
    "weights of nothing": (
        ROUTE.replace('"m"', '"m", weight = 0') + 'routing.policy = "weighted"\n', 2, 11, "routes.r.targets", "every weight is 0",
    ),
    "limit without window": (LIMIT.replace('window = "minute"\n', ""), 1, 9, "limits.l.window", "over what time"),
    "concurrency in a window": (LIMIT.replace('"requests"', '"concurrency"'), 5, 10, "limits.l.window", "leave it out"),
    "half a request": (LIMIT.replace("= 5", "= 5.5"), 4, 10, "limits.l.amount", "whole numbers"),
    "time zone": (LIMIT + 'time_zone = "Mars/Base"\n', 6, 13, "limits.l.time_zone", "IANA"),
    "limit on an unknown route": (LIMIT + 'routes = ["q"]\n', 6, 11, "limits.l.routes[0]", "no route 'q'"),
    "profile of nothing": ("[guardrails.g]\nguards = []\n", 2, 10, "guardrails.g.guards", "guards nothing"),
    "no network": ('[blocks.b]\ncidrs = ["10.0.0.0/8", "10.0.0.1/8"]\n', 2, 24, "blocks.b.cidrs[1]", "host bits"),
    "no country": ('[blocks.b]\ncountries = ["Germany"]\n', 2, 14, "blocks.b.countries[0]", "ISO 3166"),
    "no expression": ('[blocks.b]\nuser_agent = "("\n', 2, 14, "blocks.b.user_agent", "regular expression"),
    "rule of nothing": ("[blocks.b]\n", 1, 9, "blocks.b", "no condition"),
    "provider without address": ("[providers.p]\nbase_url = 'x'\n", 2, 12, "providers.p.base_url", "pattern"),
    "price of nobody": (
        '[[prices]]\nprovider = "nobody"\nmodel = "m"\neffective_from = 2026-01-01\ninput_per_mtok_usd = 1\n',
        2, 12, "prices[0].provider", "unknown provider",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_problem_is_told_once_and_where_it_is(name: str) -> None:
    text, line, column, path, words = WRONG[name]
    checked = check(text)
    assert not checked.ok
    found = {(one.place.line, one.place.column, one.dotted) for one in checked.errors}
    assert (line, column, path) in found, [one.render("f") for one in checked.problems]
    told = next(one for one in checked.errors if one.dotted == path)
    assert words in told.message
    others = [one for one in checked.errors if one is not told and not one.message.startswith("is missing")]
    assert not others, [one.render("f") for one in others]


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    texts = [ROUTE.replace('"openai"', '"opnai"'), LIMIT + 'time_zone = "x"\n', "[blocks.b]\n", "[oops]\n"]
    lines = [one.place.line for one in check("".join(texts)).problems]
    assert len(lines) == 4
    assert lines == sorted(lines)


def test_a_cycle_is_told_once_with_the_whole_way() -> None:
    routes = "".join(
        ROUTE.replace("routes.r", f"routes.{name}") + f'routing.fallbacks = ["{other}"]\n'
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    (problem,) = check(routes).problems
    assert (problem.dotted, problem.place.line) == ("routes.a.routing.fallbacks[0]", 3)
    assert "a -> b -> c -> a" in problem.message


def test_deployments_are_asked_for_only_when_they_are_known() -> None:
    text = '[routes.r]\ntargets = [{ kind = "engine", deployment = "smollm" }]\n'
    assert check(text).problems == ()
    (warning,) = check(text, deployments={"smollm2": Deployed(Task.GENERATE)}).problems
    assert (warning.severity, "'smollm2'" in warning.message) == ("warning", True)
    (error,) = check(text, deployments={"smollm": Deployed(Task.EMBED)}).problems
    assert (error.severity, "computes 'embed'" in error.message) == ("error", True)


def test_an_adapter_must_be_the_deployments() -> None:
    text = '[routes.r]\ntargets = [{ kind = "engine", deployment = "m", adapter = "poet" }, { kind = "engine", deployment = "m" }]\n'
    there = {"m": Deployed(Task.GENERATE, ("poets",))}
    assert check(text, deployments={"m": Deployed(Task.GENERATE, ("poet",))}).problems == ()
    (error,) = check(text, deployments=there).problems
    assert (error.dotted, error.place.line, error.place.column) == ("routes.r.targets[0].adapter", 2, 59)
    assert "did you mean 'poets'?" in error.message


def test_places_count_characters_not_bytes() -> None:
    routes = '[routes.r]\ntargets = [{ kind = "engine", deployment = "smollm" }]\n'
    (problem,) = check(
        routes + '[routes.r.routing]\nfallbacks = ["ä", "größe"]\n'.replace('"ä", ', "")
    ).problems
    assert (problem.place.line, problem.place.column) == (4, 14)
    both = check(routes + '[routes.r.routing]\nfallbacks = ["größe", "q"]\n').problems
    assert [one.place.column for one in both] == [14, 23]


@pytest.mark.parametrize("file", ["examples/foundry.toml", "docs/declarative.md"])
def test_what_we_show_is_right(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".md"):
        text = "\n".join(re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    checked = check(text)
    assert checked.problems == ()
    for table in GatewayFile.model_fields:
        assert getattr(checked.gateway, table), f"{file} shows nothing of {table}"


def test_the_command_says_it_to_people_and_to_programs(tmp_path: Path) -> None:
    file = tmp_path / "foundry.toml"
    file.write_text(LIMIT, encoding="utf-8")
    good = CliRunner().invoke(app, ["gateway", "check", str(file)])
    assert (good.exit_code, "good (1 limits)" in good.stdout) == (0, True)
    file.write_text(LIMIT + "[oops]\n", encoding="utf-8")
    bad = CliRunner().invoke(app, ["gateway", "check", str(file)])
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert f"{file}:6:2: error: oops: unknown table" in bad.stderr
    (row,) = json.loads(CliRunner().invoke(app, ["gateway", "check", "--json", str(file)]).stdout)
    assert (row["line"], row["column"], row["path"], row["severity"]) == (6, 2, "oops", "error")

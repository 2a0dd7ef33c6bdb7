"""Runs the house rules over the tree, and every rule over an example that breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.house import tree
from tests.house.rules import RULES, Rule
from tests.house.source import PRODUCT, ROOT, Problem, Source, options, sources, tracked

_TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".sql", ".sh", ".cfg", ".ini", ".jinja", ""}


def assert_none(problems: Iterable[Problem]) -> None:
    found = [str(problem) for problem in problems]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("name", RULES)
def test_the_tree_keeps_the_rule(name: str) -> None:
    assert_none(problem for source in sources() for problem in RULES[name].check(source))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_rule_can_fail(rule: Rule) -> None:
    found = list(rule.check(Source(rule.path, rule.bad)))
    assert found
    assert str(found[0]).startswith(f"{rule.path}:")
    assert not list(
        rule.check(Source("foundry/gateway/named_well.py" if not rule.good else rule.path, rule.good))
    )


def test_every_error_has_a_code_and_is_drawn() -> None:
    errors = tree.error_classes(source for source in sources() if source.is_product)
    assert len(errors) > 20
    assert_none(tree.check_errors(errors, (ROOT / "foundry/errors.py").read_text()))


def test_every_subsystem_has_a_page() -> None:
    packages = {
        str(Path(source.path).parent)
        for source in sources()
        if source.is_product and not source.path.endswith("__init__.py")
    }
    folders = {
        "/".join(name.split("/")[:2]) if name.startswith("foundry/") else name.split("/")[0]
        for name in packages
    }
    assert_none(tree.check_documents(sorted(folders - {"foundry"}), options()["docs"], tracked()))


def test_the_top_level_is_fixed() -> None:
    assert_none(tree.check_top_level(tracked()))


def test_no_hosts_and_no_machine_paths() -> None:
    for name in tracked():
        if Path(name).suffix in _TEXT:
            assert_none(tree.check_text(name, (ROOT / name).read_text(encoding="utf-8")))


def test_blind_excepts_are_rare() -> None:
    assert_none(tree.check_blind_excepts(sources()))


def test_import_contracts_hold() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "lint-imports is not installed: make install-dev"
    ran = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_tree_rules_can_fail() -> None:
    code = "class NoCode(FoundryError): ...\nclass Twice(NoCode):\n    code = 'x'\nclass Again(Twice):\n    code = 'x'\n"
    bad = Source("foundry/bad.py", code)
    messages = [
        str(problem) for problem in tree.check_errors(tree.error_classes([bad]), "├── Twice\n└── Again")
    ]
    assert any("NoCode sets no `code`" in message for message in messages)
    assert any("NoCode is missing from the tree" in message for message in messages)
    assert any("the code of" in message for message in messages)
    assert str(next(tree.check_documents(["foundry/x"], {}, ["docs/y.md"]))).startswith(
        "foundry/x:1: docs/x.md"
    )
    assert list(tree.check_top_level(["scripts/x.py", "foundry/a.py"])) != []
    assert list(tree.check_text("a", "path = '/" + "root/x'")) != []
    assert list(tree.check_text("a", "see https://py" + "pi.org/simple")) != []
    assert list(tree.check_text("a", "GET /v1/root/ and docs/work/x")) == []
    two = Source("foundry/bad.py", "try:\n    f()\nexcept Exception:\n    raise\n" * 2)
    assert len(list(tree.check_blind_excepts([two]))) == 2


def test_the_product_is_what_pyproject_packages() -> None:
    packaged = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{name}*"' in packaged for name in PRODUCT)

"""House rules over the whole tree: errors, documents, folders, hosts and paths. Each takes its input, so it can be tested."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.house.rules import is_blind
from tests.house.source import Problem, Source, dotted

TOP_LEVEL = {
    ".ci", ".github", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "benchmarks", "constraints", "control_api",
    "docs", "examples", "foundry", "kuberay", "pyproject.toml", "ray-cluster.yaml", "serve_apps", "tests", "tune_jobs",
}  # fmt: skip
LINES_PER_BLIND_EXCEPT = 3000

_HOSTS = (
    "pypi" + r"\.org",
    "files.python" + "hosted",
    "download.py" + "torch",
    "registry.npm" + "js",
    "proxy.golang" + r"\.org",
)
_HOST = re.compile("|".join(_HOSTS) + r"|^\s*--(?:extra-)?index-url|^\s*--find-links", re.MULTILINE)
_MACHINE_PATH = re.compile(r"(?<![\w.$}\])~*-])/(?:work|root|opt|home/[a-z]+)/[\w.]")


@dataclass(frozen=True)
class ErrorClass:
    """An exception class as written."""

    name: str
    bases: tuple[str, ...]
    code: str | None
    path: str
    line: int


def error_classes(sources: Iterable[Source]) -> list[ErrorClass]:
    """Every subclass of FoundryError, found by the names of its bases."""
    classes: dict[str, ErrorClass] = {}
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                bases = tuple(dotted(base).rpartition(".")[2] for base in node.bases)
                classes[node.name] = ErrorClass(node.name, bases, _code(node), source.path, node.lineno)
    known = {"FoundryError"}
    while added := {
        found.name for found in classes.values() if found.name not in known and known & set(found.bases)
    }:
        known |= added
    return [classes[name] for name in sorted(known) if name in classes]


def _code(node: ast.ClassDef) -> str | None:
    for statement in node.body:
        target = (
            statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        )
        value = getattr(statement, "value", None)
        if isinstance(target, ast.Name) and target.id == "code" and isinstance(value, ast.Constant):
            return str(value.value)
    return None


def check_errors(errors: Sequence[ErrorClass], drawing: str) -> Iterator[Problem]:
    """Every error has a code of its own and stands in the tree drawn in errors.py."""
    owners: dict[str, str] = {}
    for error in errors:
        if error.code is None:
            yield Problem(error.path, error.line, f"{error.name} sets no `code` of its own")
        elif error.code in owners:
            yield Problem(
                error.path, error.line, f"{error.name} has the code of {owners[error.code]}: {error.code}"
            )
        else:
            owners[error.code] = error.name
        if error.name != "FoundryError" and not re.search(rf"── {error.name}\b", drawing):
            yield Problem(
                error.path,
                error.line,
                f"{error.name} is missing from the tree in foundry/errors.py's docstring",
            )


def check_documents(
    folders: Iterable[str], pages: Mapping[str, str], files: Iterable[str]
) -> Iterator[Problem]:
    """Every subsystem folder has a page: docs/<folder>.md, or the one that `[tool.foundry.docs]` names."""
    have = set(files)
    for folder in folders:
        page = pages.get(folder, f"docs/{folder.rpartition('/')[2]}.md")
        if page not in have:
            yield Problem(folder, 1, f"{page} is missing: one short page for whoever carries this folder on")


def check_top_level(files: Iterable[str]) -> Iterator[Problem]:
    """The list of top-level names is fixed."""
    for name in sorted({file.split("/", 1)[0] for file in files} - TOP_LEVEL):
        yield Problem(
            name,
            1,
            "a new top-level name: put it into an existing folder, or extend TOP_LEVEL and ARCHITECTURE",
        )


def check_text(path: str, text: str) -> Iterator[Problem]:
    """No package registry's host and no path of one machine in a committed file."""
    for number, line in enumerate(text.splitlines(), 1):
        if _HOST.search(line):
            yield Problem(
                path,
                number,
                "names a package registry: pip's and uv's own configuration says where packages come from",
            )
        if _MACHINE_PATH.search(line):
            yield Problem(
                path, number, "names a path of one machine: use a setting, $HOME or a temporary folder"
            )


def check_blind_excepts(sources: Iterable[Source]) -> Iterator[Problem]:
    """`except Exception` in fewer than one of 3,000 lines (one is always allowed)."""
    product = [source for source in sources if source.is_product]
    allowed = max(1, sum(source.text.count("\n") for source in product) // LINES_PER_BLIND_EXCEPT)
    found = [
        Problem(
            source.path,
            node.lineno,
            f"`except Exception` beyond the {allowed} that the size of the code allows",
        )
        for source in product
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and is_blind(node)
    ]
    if len(found) > allowed:
        yield from found

"""What a house rule sees: the committed files, parsed once. Knows no rule."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("foundry", "serve_apps", "tune_jobs", "kuberay", "control_api")


@dataclass(frozen=True)
class Problem:
    """One violation, shown as file:line: message."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the root, its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def comments(self) -> dict[int, str]:
        """Comment text by line."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @property
    def top(self) -> str:
        return self.path.split("/", 1)[0]

    @property
    def is_product(self) -> bool:
        return self.top in PRODUCT

    def said_near(self, node: ast.stmt | ast.expr) -> str:
        """Comments on the node's lines and on the lines of comment directly above it."""
        end = node.end_lineno or node.lineno
        found = [self.comments[line] for line in range(node.lineno, end + 1) if line in self.comments]
        line = node.lineno - 1
        while line in self.comments and self.text.splitlines()[line - 1].lstrip().startswith("#"):
            found.append(self.comments[line])
            line -= 1
        return " ".join(found)


@cache
def tracked() -> tuple[str, ...]:
    """Every file that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(sorted(name for name in set(listed) if (ROOT / name).is_file()))


@cache
def sources() -> tuple[Source, ...]:
    return tuple(
        Source(name, (ROOT / name).read_text(encoding="utf-8")) for name in tracked() if name.endswith(".py")
    )


@cache
def options() -> dict[str, Any]:  # Any: TOML of whatever shape
    """`[tool.foundry]` of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["foundry"]


def dotted(node: ast.expr) -> str:
    """`a.b.c` for a chain of names; "" for anything else. A call on a result keeps its last attribute: `.c`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def has_words(text: str) -> bool:
    """True for a comment that says something beyond codes and punctuation."""
    return len(re.findall(r"[A-Za-z]{2,}", text)) >= 2

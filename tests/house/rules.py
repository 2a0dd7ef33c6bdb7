"""The house rules that a machine can check, each with a small example that breaks it (HOUSE.md, docs/house.md).

A rule is a function from one source file to problems; `RULES` names them all. Rules over the whole tree are in `tree.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tests.house.source import Problem, Source, dotted, has_words, options

MODULE_LINES = 400
FUNCTION_LINES = 50
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
ENVIRONMENT_READERS = ("foundry/settings.py", "constraints/install.py")
REQUEST_PATH = (
    "foundry/gateway/",
    "foundry/codecs/",
    "foundry/providers/",
    "foundry/metrics/",
    "serve_apps/",
)
_BLOCKING = {
    "time.sleep",
    "open",
    "input",
    "os.system",
    "socket.create_connection",
    "urllib.request.urlopen",
    "shutil.rmtree",
}
_BLOCKING_MODULES = ("subprocess.", "requests.", "httpx.get", "httpx.post")
_BLOCKING_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "fsync"}
_CODES = r"[A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*"
_NOQA = re.compile(
    rf"#\s*(?:noqa(?::\s*{_CODES})?|type:\s*ignore(?:\[[^\]]*\])?|pyright:\s*ignore(?:\[[^\]]*\])?)"
)
_FOREVER_S = 60
"""A sleep this long is a part that somebody plays (an upstream that hangs), not a wait."""
_LOGS = {"exception", "error", "warning", "critical", "failed", "fatal"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[Source], Iterator[Problem]]
Node = TypeVar("Node", bound=ast.AST)


def nodes(source: Source, kind: type[Node]) -> Iterator[Node]:
    """The file's nodes of one kind."""
    return (node for node in ast.walk(source.tree) if isinstance(node, kind))


def module_docstring(source: Source) -> Iterator[Problem]:
    """Rule 1."""
    if source.text.strip() and not ast.get_docstring(source.tree):
        yield Problem(source.path, 1, "the module has no docstring: say what it is and what it does not know")


def size(source: Source) -> Iterator[Problem]:
    """Rule 2; `[tool.foundry.budgets]` raises a limit for a reason. A function's docstring does not count."""
    lines = source.text.count("\n")
    if lines > _budget(source.path, MODULE_LINES):
        yield Problem(
            source.path, lines, f"the module has {lines} lines, at most {MODULE_LINES} are allowed: split it"
        )
    for node in ast.walk(source.tree):
        if not isinstance(node, Function):
            continue
        length = _length(node)
        if length > _budget(f"{source.path}::{node.name}", FUNCTION_LINES):
            yield Problem(
                source.path,
                node.lineno,
                f"{node.name} has {length} lines, at most {FUNCTION_LINES} are allowed",
            )


def _length(node: Function) -> int:
    first = node.body[0]
    documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    skipped = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - skipped


def _budget(name: str, limit: int) -> int:
    entry = options()["budgets"].get(name)
    if entry is None:
        return limit
    assert has_words(entry["reason"]), f"pyproject.toml: the budget of {name} has no reason"
    return int(entry["lines"])


def ignores_have_reasons(source: Source) -> Iterator[Problem]:
    """Rule 3: `# noqa: X  why`, `# type: ignore[x]  # why`."""
    lines = source.text.splitlines()
    for line, comment in source.comments.items():
        if not _NOQA.search(comment):
            continue
        above = (
            source.comments.get(line - 1, "") if line > 1 and lines[line - 2].lstrip().startswith("#") else ""
        )
        if not has_words(_NOQA.sub("", comment)) and not has_words(above):
            yield Problem(source.path, line, f"`{comment}` gives no reason: add it behind the codes")


def any_has_a_reason(source: Source) -> Iterator[Problem]:
    """Rule 3: `Any` and `cast` carry a comment where they stand, or one `# Any: ...` line for the module."""
    if not source.is_product or any(
        re.match(r"#\s*Any:\s+\w+", comment) for comment in source.comments.values()
    ):
        return
    for statement in nodes(source, ast.stmt):
        if isinstance(statement, ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        header = _header(statement)
        hits = [part for part in header if _is_loose(part)]
        if hits and not has_words(
            " ".join([*(source.said_near(part) for part in header), _above(source, statement)])
        ):
            yield Problem(
                source.path,
                hits[0].lineno,
                "`Any` or `cast` without a reason: say why in a comment on its line",
            )


def _header(statement: ast.stmt) -> list[ast.expr]:
    """The expressions of a statement without those of the statements inside it."""
    found: list[ast.expr] = []
    stack: list[ast.AST] = [
        child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt)
    ]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.expr):
            found.append(node)
        stack += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
    return found


def _is_loose(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return dotted(node.func) in {"cast", "typing.cast"}
    return dotted(node) in {"Any", "typing.Any"}


def _above(source: Source, statement: ast.stmt) -> str:
    line = source.text.splitlines()[statement.lineno - 2] if statement.lineno > 1 else ""
    return line.strip() if line.lstrip().startswith("#") else ""


def excepts_are_not_blind(source: Source) -> Iterator[Problem]:
    """Rule 6: no bare `except:`; `except Exception` says why, and logs or raises."""
    for handler in nodes(source, ast.ExceptHandler):
        if handler.type is None:
            yield Problem(source.path, handler.lineno, "bare `except:`: name what you expect")
        elif source.is_product and is_blind(handler):
            if not has_words(source.said_near(handler.type)):
                yield Problem(
                    source.path, handler.lineno, "`except Exception` without a reason: say why in a comment"
                )
            if not _speaks(handler):
                yield Problem(
                    source.path,
                    handler.lineno,
                    "`except Exception` that neither logs nor raises hides the error",
                )


def is_blind(handler: ast.ExceptHandler) -> bool:
    """True for a handler that takes everything."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is not None and dotted(kind) in {"Exception", "BaseException"} for kind in kinds)


def _speaks(handler: ast.ExceptHandler) -> bool:
    inside = list(ast.walk(handler))
    raises = any(isinstance(node, ast.Raise) for node in inside)
    calls = {dotted(node.func).rpartition(".")[2] for node in inside if isinstance(node, ast.Call)}
    return raises or bool(calls & _LOGS)


def no_global(source: Source) -> Iterator[Problem]:
    """Rule 6: no `global`, no singletons by metaclass."""
    for node in nodes(source, ast.Global):
        yield Problem(source.path, node.lineno, f"`global {', '.join(node.names)}`: pass the object instead")
    for node in nodes(source, ast.ClassDef):
        for keyword in node.keywords:
            if keyword.arg == "metaclass" and "singleton" in dotted(keyword.value).lower():
                yield Problem(
                    source.path, node.lineno, f"{node.name} is a singleton by metaclass: make one and pass it"
                )


def module_names(source: Source) -> Iterator[Problem]:
    """Rule 4: a name says what is inside."""
    for part in source.path.removesuffix(".py").split("/"):
        if part in FORBIDDEN_NAMES:
            yield Problem(
                source.path, 1, f"`{part}` says nothing about what is inside: name it after what it holds"
            )


def environment(source: Source) -> Iterator[Problem]:
    """Rule 9: one module reads the environment."""
    if source.path in ENVIRONMENT_READERS or source.top in {"tests", "benchmarks", "examples"}:
        return
    for node in nodes(source, ast.Attribute):
        if dotted(node) in {"os.environ", "os.getenv", "os.environb", "os.putenv"}:
            yield Problem(
                source.path,
                node.lineno,
                f"{dotted(node)}: only foundry/settings.py reads the environment; use it",
            )
    for node in nodes(source, ast.ImportFrom):
        names = {alias.name for alias in node.names} & {"environ", "getenv"}
        if node.module == "os" and names:
            yield Problem(source.path, node.lineno, "only foundry/settings.py reads the environment; use it")


def no_blocking_calls(source: Source) -> Iterator[Problem]:
    """Rule 8, on the request path: nothing blocking directly inside `async def` (blockbuster finds the indirect ones)."""
    if not source.path.startswith(REQUEST_PATH):
        return
    for function in nodes(source, ast.AsyncFunctionDef):
        for call in _own_calls(function):
            name = dotted(call.func)
            method = name.rpartition(".")[2]
            if name in _BLOCKING or name.startswith(_BLOCKING_MODULES) or method in _BLOCKING_METHODS:
                yield Problem(
                    source.path,
                    call.lineno,
                    f"{name}() blocks the event loop: use asyncio.to_thread or an async call",
                )


def _own_calls(function: ast.AsyncFunctionDef) -> Iterator[ast.Call]:
    """Calls in the function itself, not in functions defined inside it."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            yield node
        stack += list(ast.iter_child_nodes(node))


def no_sleeping_tests(source: Source) -> Iterator[Problem]:
    """Rule 12: wait for what you need; a bounded poll or a delay that is itself the scene says so in a comment."""
    if source.top != "tests":
        return
    bounded = {
        id(node) for block in nodes(source, ast.AsyncWith) if _is_timeout(block) for node in ast.walk(block)
    }
    for call in nodes(source, ast.Call):
        if dotted(call.func) not in {"time.sleep", "asyncio.sleep"} or id(call) in bounded:
            continue
        seconds = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        plays_a_part = isinstance(seconds, int | float) and (seconds == 0 or seconds >= _FOREVER_S)
        if not plays_a_part and not has_words(source.said_near(call)):
            message = "a sleep is no synchronisation: wait for the event; a bounded poll or a played delay says so in a comment"
            yield Problem(source.path, call.lineno, message)


def _is_timeout(block: ast.AsyncWith) -> bool:
    calls = (item.context_expr for item in block.items)
    return any(isinstance(call, ast.Call) and dotted(call.func) == "asyncio.timeout" for call in calls)


@dataclass(frozen=True)
class Rule:
    """A check and what proves that it can fail."""

    check: Check
    bad: str
    """A file that breaks the rule."""
    good: str
    """The same, mended."""
    path: str = "foundry/example.py"


_HEAD = '"""D."""\n\n\ndef f() -> None:\n    """What."""\n'
_LINE = "    print()\n"

RULES: dict[str, Rule] = {
    "module docstring": Rule(module_docstring, "x = 1\n", '"""What it is."""\n\nx = 1\n'),
    "size of modules": Rule(size, "x = 1\n" * 401, "x = 1\n" * 400),
    "size of functions": Rule(size, _HEAD + _LINE * 50, _HEAD + _LINE * 49),
    "ignores have reasons": Rule(
        ignores_have_reasons, "x = 1  # noqa: E501\n", "x = 1  # noqa: E501  a URL that cannot break\n"
    ),
    "type ignores have reasons": Rule(
        ignores_have_reasons,
        "x = f()  # type: ignore[x]\n",
        "x = f()  # type: ignore[x]  # its stubs are wrong\n",
    ),
    "Any has a reason": Rule(
        any_has_a_reason, "def f(x: Any) -> None: ...\n", "def f(x: Any) -> None: ...  # ray ships no types\n"
    ),
    "cast has a reason": Rule(
        any_has_a_reason, "x = cast(int, y)\n", "# checked by the caller above\nx = cast(int, y)\n"
    ),
    "bare except": Rule(
        excepts_are_not_blind,
        "try:\n    f()\nexcept:\n    pass\n",
        "try:\n    f()\nexcept KeyError:\n    pass\n",
    ),
    "silent except": Rule(
        excepts_are_not_blind,
        "try:\n    f()\nexcept Exception:  # the edge of the process\n    pass\n",
        "try:\n    f()\nexcept Exception:  # the edge of the process\n    log.exception('x')\n",
    ),
    "no global": Rule(no_global, "def f() -> None:\n    global x\n", "def f() -> None: ...\n"),
    "no singletons": Rule(
        no_global, "class A(metaclass=Singleton): ...\n", "class A(metaclass=ABCMeta): ...\n"
    ),
    "module names": Rule(module_names, "", "", path="foundry/gateway/utils.py"),
    "environment": Rule(
        environment, "import os\nx = os.environ['A']\n", "from foundry import settings\nx = settings.load()\n"
    ),
    "no blocking calls": Rule(
        no_blocking_calls,
        "async def f() -> None:\n    Path('x').read_text()\n",
        "async def f() -> None:\n    await asyncio.to_thread(Path('x').read_text)\n",
        path="foundry/gateway/example.py",
    ),
    "no sleeping tests": Rule(
        no_sleeping_tests,
        "import time\ntime.sleep(1)\n",
        "async def f() -> None:\n    async with asyncio.timeout(9):\n        await asyncio.sleep(1)\n",
        path="tests/test_x.py",
    ),
}

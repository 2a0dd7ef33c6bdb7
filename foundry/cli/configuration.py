"""`foundry routes|limits|guardrails|blocks set|list|show|rm`, `foundry providers`: the gateway's configuration by calls.

`set` takes what is common as options, and everything with `--from FILE`: the entry of that name in a file written like
`foundry.toml`. What it does not know: what an entry may say (`foundry.declare`), how it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, JsonOption, control, running
from foundry.errors import InvalidParameter

if TYPE_CHECKING:
    from pydantic import BaseModel

    from foundry.client import ControlClient, Named, Routes
    from foundry.declare.model import GatewayFile
    from foundry.types.control import BlockRead, GuardrailRead, LimitRead, RouteRead
    from foundry.types.guardrails import BlockRule, GuardrailProfile
    from foundry.types.limits import LimitEntry

    Noun = (
        Routes
        | Named[LimitEntry, LimitRead]
        | Named[GuardrailProfile, GuardrailRead]
        | Named[BlockRule, BlockRead]
    )
Entry = TypeVar("Entry", bound="BaseModel")
FromOption = Annotated[
    Path | None,
    typer.Option("--from", help="Take the entry of this name from a file written like foundry.toml."),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


def _group(what: str) -> typer.Typer:
    return typer.Typer(help=what, no_args_is_help=True, rich_markup_mode=None)


routes = _group("Make, list and delete routes: the model names that clients ask for.")
limits = _group("Make, list and delete limits and budgets.")
guardrails = _group("Make, list and delete guardrail profiles.")
blocks = _group("Make, list and delete blocking rules.")


@routes.command("set")
def set_route(
    name: NameArgument,
    home: HomeOption = DEFAULT_HOME,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="engine/DEPLOYMENT[/ADAPTER] or PROVIDER/MODEL, in order of preference; `=WEIGHT` behind it. Repeatable."
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="What it computes: generate, embed, rerank, ...")] = "generate",
    policy: Annotated[str, typer.Option(help="How a target is chosen: priority, weighted, ...")] = "priority",
    fallback: Annotated[
        list[str] | None, typer.Option(help="A route to ask when all fail. Repeatable.")
    ] = None,
    guardrail: Annotated[list[str] | None, typer.Option(help="A guardrail profile. Repeatable.")] = None,
    cache_ttl: Annotated[float | None, typer.Option(help="Cache answers for this many seconds.")] = None,
    file: FromOption = None,
) -> None:
    """Make or replace a route.

    Examples:  foundry routes set chat --target openai/gpt-4o-mini=3 --target engine/smollm2 --policy weighted
               foundry routes set chat --from chat.toml
    """
    from foundry.types.control import RouteWrite

    if file is not None:
        route = _entry(file, "routes", name, lambda gateway: gateway.routes)
    else:
        content = {
            "task": task,
            "targets": [_target(one) for one in target or ()],
            "routing": {"policy": policy, "fallbacks": fallback or []},
            "guardrails": guardrail or [],
            "cache": None if cache_ttl is None else {"ttl_s": cache_ttl},
        }
        route = _made(RouteWrite, content)
    with control(running(home)) as client:
        client.routes.write(name, route)
    print(f"route {name} is set")


@limits.command("set")
def set_limit(
    name: NameArgument,
    home: HomeOption = DEFAULT_HOME,
    meter: Annotated[
        str | None, typer.Option(help="requests, input_tokens, output_tokens, tokens, concurrency, usd")
    ] = None,
    scope: Annotated[str, typer.Option(help="key, user, project, organization, route, model")] = "key",
    amount: Annotated[str | None, typer.Option(help="At most so much.")] = None,
    window: Annotated[str | None, typer.Option(help="second, minute, hour, day, week, month, total")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only for this id or name. Repeatable.")] = None,
    route: Annotated[list[str] | None, typer.Option(help="Only requests to this route. Repeatable.")] = None,
    time_zone: Annotated[str, typer.Option(help="Where days and months begin.")] = "UTC",
    file: FromOption = None,
) -> None:
    """Make or replace a limit or a budget.

    Examples:  foundry limits set per-key --meter requests --amount 600 --window minute
               foundry limits set budget --meter usd --scope project --amount 250 --window month --time-zone Europe/Madrid
    """
    from foundry.types.limits import LimitEntry

    if file is not None:
        entry = _entry(file, "limits", name, lambda gateway: gateway.limits)
    else:
        given = {"name": name, "meter": meter, "scope": scope, "amount": amount, "window": window}
        given |= {"subjects": subject, "routes": route, "time_zone": time_zone}
        entry = _made(LimitEntry, {key: value for key, value in given.items() if value is not None})
    with control(running(home)) as client:
        client.limits.put(entry)
    print(f"limit {name} is set")


@guardrails.command("set")
def set_guardrail(
    name: NameArgument,
    home: HomeOption = DEFAULT_HOME,
    guard: Annotated[
        list[str] | None, typer.Option(help="KIND, KIND:ACTION or KIND:ACTION:STAGE,STAGE. Repeatable.")
    ] = None,
    file: FromOption = None,
) -> None:
    """Make or replace a guardrail profile.

    Examples:  foundry guardrails set house --guard secrets:redact:input,output --guard prompt_injection:block
               foundry guardrails set house --from house.toml
    """
    from foundry.types.guardrails import GuardrailProfile

    if file is not None:
        profile = _entry(file, "guardrails", name, lambda gateway: gateway.guardrails)
    else:
        profile = _made(GuardrailProfile, {"name": name, "guards": [_guard(one) for one in guard or ()]})
    with control(running(home)) as client:
        client.guardrails.put(profile)
    print(f"guardrail profile {name} is set")


@blocks.command("set")
def set_block(
    name: NameArgument,
    home: HomeOption = DEFAULT_HOME,
    cidr: Annotated[list[str] | None, typer.Option(help="A network, e.g. 10.0.0.0/8. Repeatable.")] = None,
    country: Annotated[list[str] | None, typer.Option(help="ISO 3166 code. Repeatable.")] = None,
    user_agent: Annotated[str | None, typer.Option(help="A regular expression.")] = None,
    route: Annotated[list[str] | None, typer.Option(help="Only requests to this route. Repeatable.")] = None,
    allow: Annotated[bool, typer.Option("--allow", help="Refuse those that do not match.")] = False,
    file: FromOption = None,
) -> None:
    """Make or replace a blocking rule.

    Examples:  foundry blocks set office --cidr 10.0.0.0/8 --allow    foundry blocks set bots --user-agent scrapy
    """
    from foundry.types.guardrails import BlockRule

    if file is not None:
        rule = _entry(file, "blocks", name, lambda gateway: gateway.blocks)
    else:
        given = {"name": name, "cidrs": cidr or [], "countries": country or [], "user_agent": user_agent}
        rule = _made(BlockRule, {**given, "routes": route, "allow": allow})
    with control(running(home)) as client:
        client.blocks.put(rule)
    print(f"blocking rule {name} is set")


def providers(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the providers that routes can name, and whether their key is set."""
    with control(running(home)) as client:
        found = client.providers()
    rows = [
        (one.name, one.title, one.source, one.secret_env, "set" if one.secret_set else "-") for one in found
    ]
    _show(
        ("provider", "title", "source", "variable", "key"),
        rows,
        [one.model_dump_json() for one in found] if as_json else None,
    )


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for name, group in (
        ("routes", routes),
        ("limits", limits),
        ("guardrails", guardrails),
        ("blocks", blocks),
    ):
        _add_common(group, name)
        app.add_typer(group, name=name)
    app.command()(providers)


def _add_common(group: typer.Typer, noun: str) -> None:
    """`list`, `show` and `rm` of one noun."""

    def list_all(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
        with control(running(home)) as client:
            found = _noun(client, noun).list()
        rows = [(one.name, one.source, f"{one.updated_at:%Y-%m-%d %H:%M}", _summary(one)) for one in found]
        _show(
            ("name", "source", "changed", "says"),
            rows,
            [one.model_dump_json() for one in found] if as_json else None,
        )

    def show(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
        with control(running(home)) as client:
            print(_noun(client, noun).get(name).model_dump_json(indent=2))

    def remove(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
        with control(running(home)) as client:
            _noun(client, noun).delete(name)
        print(f"deleted {name}")

    group.command("list", help=f"List {noun}, those of foundry.toml included.")(list_all)
    group.command("show", help="Print one as JSON.")(show)
    group.command("rm", help="Delete one. What foundry.toml declares is deleted there.")(remove)


def _noun(client: ControlClient, noun: str) -> Noun:
    found: dict[str, Noun] = {
        "routes": client.routes,
        "limits": client.limits,
        "guardrails": client.guardrails,
        "blocks": client.blocks,
    }
    return found[noun]


def _summary(one: RouteRead | LimitRead | GuardrailRead | BlockRead) -> str:
    """One entry in a few words."""
    from foundry.types.control import BlockRead, GuardrailRead, LimitRead

    if isinstance(one, LimitRead):
        limit = one.spec
        over = f" per {limit.window}" if limit.window else " at a time"
        where = f" on {', '.join(limit.routes)}" if limit.routes else ""
        return f"{limit.amount.normalize():f} {limit.meter}{over} for each {limit.scope}{where}"
    if isinstance(one, GuardrailRead):
        return ", ".join(f"{guard.kind}:{guard.action}:{','.join(guard.stages)}" for guard in one.spec.guards)
    if isinstance(one, BlockRead):
        rule = one.spec
        said = [*rule.cidrs[:3], *rule.countries, *([rule.user_agent] if rule.user_agent else [])]
        return f"{'only' if rule.allow else 'not'} {', '.join(said)}"
    targets = ", ".join(
        target.target_id if target.kind == "engine" else f"{target.provider}/{target.model}"
        for target in one.targets
    )
    return f"{one.task.value}, {one.routing.policy}: {targets}"


def _show(titles: Sequence[str], rows: Sequence[tuple[str, ...]], as_json: list[str] | None) -> None:
    if as_json is not None:
        print("[" + ",".join(as_json) + "]")
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        grid.add_row(*row)
    Console().print(grid)


def _entry(file: Path, table: str, name: str, pick: Callable[[GatewayFile], dict[str, Entry]]) -> Entry:
    """The entry of a file. Raises InvalidParameter with the problems of that entry, or when there is none."""
    from foundry.cli.gateway import read
    from foundry.declare.check import check

    checked = check(read(file))
    wrong = [one for one in checked.errors if one.path[:2] == (table, name) or not one.path]
    if wrong and pick(checked.gateway).get(name) is None:
        raise InvalidParameter("\n".join(one.render(str(file)) for one in wrong))
    entry = pick(checked.gateway).get(name)
    if entry is None:
        raise InvalidParameter(f"{file} has no [{table}.{name}]: add it, or give options")
    return entry  # what it refers to is checked by the control API, which knows it


def _made(model: type[Entry], content: Mapping[str, object]) -> Entry:
    """A contract from options. Raises InvalidParameter naming the option."""
    from pydantic import ValidationError

    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidParameter(f"{where}: {first['msg']}", param=where) from error


def _target(text: str) -> dict[str, object]:
    """`engine/NAME`, `engine/NAME/ADAPTER`, `PROVIDER/MODEL`, either with `=WEIGHT`."""
    name, separator, weight = text.rpartition("=")
    where = name if separator else text
    kind, slash, rest = where.partition("/")
    if not slash or not rest:
        raise InvalidParameter(
            f"--target {text}: write engine/DEPLOYMENT[/ADAPTER] or PROVIDER/MODEL", param="--target"
        )
    share: dict[str, object] = {"weight": weight} if separator else {}
    if kind == "engine":
        deployment, _, adapter = rest.partition("/")
        return {"kind": "engine", "deployment": deployment, "adapter": adapter or None, **share}
    return {"kind": "provider", "provider": kind, "model": rest, **share}


def _guard(text: str) -> dict[str, object]:
    """`KIND[:ACTION[:STAGE,STAGE]]`."""
    kind, *rest = text.split(":")
    guard: dict[str, object] = {"kind": kind}
    if rest:
        guard["action"] = rest[0]
    if len(rest) > 1:
        guard["stages"] = rest[1].split(",")
    return guard

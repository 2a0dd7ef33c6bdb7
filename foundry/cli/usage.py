"""`foundry usage`: what was asked, by which route, and what it cost.

What it does not know: how usage is recorded or stored; it asks the control API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundry.cli.context import DEFAULT_HOME, HomeOption, JsonOption, control, running
from foundry.errors import InvalidParameter

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def usage(
    home: HomeOption = DEFAULT_HOME,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most records, newest first.")] = 20,
    since: Annotated[
        str | None, typer.Option(help="A time (2026-01-31T12:00) or an age (90s, 30m, 12h, 7d).")
    ] = None,
    route: Annotated[str | None, typer.Option(help="Only this route.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List usage records, newest first, and their sum.

    Examples:  foundry usage    foundry usage --since 24h --limit 1000    foundry usage --json | jq '.[].cost_usd'
    """
    instance = running(home)
    moment = parse_since(since, datetime.now(UTC)) if since else None
    with control(instance) as client:
        rows = client.usage(limit=limit, since=moment, route=route)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print("no usage recorded yet" if not since else f"no usage since {moment}")
        return
    from rich.console import Console

    Console().print(table(rows))


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(usage)


def parse_since(text: str, now: datetime, *, option: str = "--since") -> datetime:
    """An age ("30m") or an ISO time (without a zone: local time). Raises InvalidParameter that names `option`."""
    age = re.fullmatch(r"(\d+)([smhd])", text)
    if age:
        return now - timedelta(seconds=int(age[1]) * _UNITS[age[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidParameter(
            f"{option} {text!r} is neither a time such as 2026-01-31T12:00 nor a span such as 30m",
            param=option.removeprefix("--"),
        ) from error
    return moment if moment.tzinfo else moment.astimezone()


def money(amount: Decimal) -> str:
    """Dollars without trailing zeros, never in exponents."""
    return f"{amount.normalize():f}" if amount else "0"


def table(rows: Sequence[Mapping[str, Any]]) -> Table:  # Any: JSON values, each read by its column below
    """The records and their sum. Costs are summed as decimals; records without a known price are counted apart."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, show_footer=True)
    known = [Decimal(str(row["cost_usd"])) for row in rows if row.get("cost_usd") is not None]
    unknown = sum(1 for row in rows if row.get("price_status") == "unknown")
    total = money(sum(known, Decimal(0))) + (f" + {unknown} unpriced" if unknown else "")
    grid.add_column("time", no_wrap=True, footer=f"{len(rows)} records")
    grid.add_column("route")
    grid.add_column("in", justify="right", footer=str(sum(int(row["input_tokens"]) for row in rows)))
    grid.add_column("out", justify="right", footer=str(sum(int(row["output_tokens"]) for row in rows)))
    grid.add_column("ttft ms", justify="right")
    grid.add_column("cost $", justify="right", no_wrap=True, footer=total)
    grid.add_column("status", justify="right")
    for row in rows:
        ttft = row.get("ttft_ms")
        cost = row.get("cost_usd")
        moment = datetime.fromisoformat(str(row["received_at"])).astimezone()
        grid.add_row(
            *(f"{moment:%m-%d %H:%M:%S}", str(row.get("route") or row.get("protocol") or "-")),
            *(
                str(row["input_tokens"]),
                str(row["output_tokens"]),
                "" if ttft is None else f"{float(ttft):.0f}",
            ),
            "?" if cost is None else money(Decimal(str(cost))),
            f"{row['status']} {row.get('outcome', '')}".strip(),
        )
    return grid

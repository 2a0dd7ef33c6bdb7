"""A LiteLLM proxy's config.yaml as our tables: what has an equivalent is taken over, everything else is in the report.

Whatever is not asked for is reported by `Source.left`, so nothing is dropped in silence. What it does not know: how
the tables are written (`toml_text.py`).

    foundry gateway import litellm config.yaml -o foundry.toml
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from foundry.declare import toml_text
from foundry.declare.litellm import settings_part
from foundry.declare.litellm.reasons import explain
from foundry.declare.litellm.source import Remark, Source
from foundry.declare.litellm.targets import Target, read_target, row_name
from foundry.located import Path

# Any: rows of a TOML document.

Table = dict[str, Any]
_ROUTE_NAME = re.compile(r"[^A-Za-z0-9._:/@+-]")


@dataclass
class Tables:
    """The file in the making."""

    gateway: Table = field(default_factory=dict[str, Any])
    providers: dict[str, Table] = field(default_factory=dict[str, Table])
    routes: dict[str, Table] = field(default_factory=dict[str, Table])
    limits: dict[str, Table] = field(default_factory=dict[str, Table])
    guardrails: dict[str, Table] = field(default_factory=dict[str, Table])
    blocks: dict[str, Table] = field(default_factory=dict[str, Table])

    def text(self) -> str:
        """As TOML."""
        parts = ["# Made from a LiteLLM configuration by `foundry gateway import litellm`.\n"]
        if self.gateway:
            parts.append(toml_text.entry(["gateway"], self.gateway))
        for table in ("providers", "routes", "limits", "guardrails", "blocks"):
            entries: dict[str, Table] = getattr(self, table)
            parts += [toml_text.entry([table, name], content) for name, content in entries.items()]
        return "\n".join(parts)


@dataclass(frozen=True)
class Converted:
    """The outcome."""

    toml: str
    remarks: tuple[Remark, ...]
    """By line: what was left out, and what was taken over with a difference."""
    source: Source


def convert(text: str, origin: str = "config.yaml") -> Converted:
    """Our file, and the report. Raises ConfigurationError when it is not YAML or no mapping."""
    source, tables = Source(text, origin), Tables()
    _models(source, tables)
    settings_part.take_over(source, tables.routes, tables.limits, tables.gateway)
    settings_part.guardrails(source, tables.guardrails, tables.routes)
    settings_part.blocks(source, tables.blocks)
    for leaf in source.left():
        path, reason, instead = explain(leaf)
        source.drop(path, reason, instead)
    return Converted(tables.text(), source.remarks, source)


def _models(source: Source, tables: Tables) -> None:
    groups: dict[str, list[tuple[Path, Target]]] = {}
    for place in source.places("model_list"):
        base: Path = ("model_list", place)
        name = str(source.take(*base, "model_name") or "")
        target = read_target(source, base)
        if target is not None:
            groups.setdefault(_route_name(source, base, name), []).append((base, target))
    for name, members in groups.items():
        _route(source, tables, name, members)


def _route_name(source: Source, base: Path, name: str) -> str:
    ours = _ROUTE_NAME.sub("-", name).lstrip("._:/@+-") or "model"
    if ours != name:
        source.note((*base, "model_name"), f"'{name}' is no name for a route", f"callers ask for '{ours}'")
    return ours


def _route(source: Source, tables: Tables, name: str, members: list[tuple[Path, Target]]) -> None:
    task = members[0][1].task
    targets: list[tuple[int, Table]] = []
    for base, target in members:
        if target.task != task:
            words = f"it computes '{target.task}', the first of its group '{task}'"
            source.drop(base, words, "make a route of its own for it")
            continue
        order = source.number(*base, "litellm_params", "order")
        targets.append((int(order or 0), _target_table(tables, target)))
        _shares(source, base, targets[-1][1])
    _rates(source, tables, name, members)
    unique: list[Table] = []
    for _order, table in sorted(targets, key=lambda pair: pair[0]):
        identity = [table.get(key) for key in ("provider", "model", "base_url")]
        if any(identity == [one.get(key) for key in ("provider", "model", "base_url")] for one in unique):
            source.note(
                members[0][0],
                f"the group '{name}' names {table['model']} twice",
                "one target stands for both",
            )
            continue
        unique.append(table)
    routing = _times(source, members)
    if any("weight" in table for table in unique):
        routing["policy"] = "weighted"
    tables.routes[name] = {"task": task, "targets": unique} | ({"routing": routing} if routing else {})


def _target_table(tables: Tables, target: Target) -> Table:
    provider = target.provider
    if target.row is not None:
        if target.base_url is not None:
            target.row["base_url"] = target.base_url
        provider = row_name(target, tables.providers)
        tables.providers[provider] = target.row
    table: Table = {"kind": "provider", "provider": provider, "model": target.model}
    if target.base_url is not None and target.row is None:
        table["base_url"] = target.base_url
    if "price" in target.fields:
        target.fields["price"]["price_id"] = f"{provider}/{target.model}@operator"
    return table | target.fields


def _shares(source: Source, base: Path, table: Table) -> None:
    """`weight` as it is; without one LiteLLM's shuffle goes by rpm, then tpm."""
    params = (*base, "litellm_params")
    weight = source.number(*params, "weight")
    for name in ("rpm", "tpm"):
        weight = weight if weight is not None else source.number(*params, name)
    if weight is not None:
        table["weight"] = int(weight) if weight.is_integer() else weight


def _rates(source: Source, tables: Tables, name: str, members: list[tuple[Path, Target]]) -> None:
    """rpm and tpm of deployments: one limit for each model of the group, over all its deployments."""
    for key, meter in (("rpm", "requests"), ("tpm", "tokens")):
        amounts: dict[str, int] = {}
        for base, target in members:
            path = (*base, "litellm_params", key)
            amount = source.number(*path)
            if amount is not None:
                amounts[target.model] = amounts.get(target.model, 0) + int(amount)
                if sum(other.model == target.model for _, other in members) > 1:
                    words = "deployments of one model share one limit, the sum of theirs; a model at its limit is passed over"
                    source.note(path, words, "give them model names of their own if each should have its own")
        for number, (model, amount) in enumerate(amounts.items(), 1):
            stem = re.sub(r"[^a-z0-9._-]", "-", f"{name}-{key}".lower()).lstrip("._-")
            label = stem if len(amounts) == 1 else f"{stem}-{number}"
            tables.limits[label] = {"meter": meter, "scope": "model", "subjects": [model], "routes": [name]}
            tables.limits[label] |= {"amount": Decimal(amount), "window": "minute"}


def _times(source: Source, members: list[tuple[Path, Target]]) -> Table:
    """Time-outs and retries that stand at deployments: the largest of the group holds for the route."""
    found: dict[str, float] = {}
    for base, _target in members:
        for key in ("timeout", "stream_timeout", "max_retries", "num_retries"):
            path = (*base, "litellm_params", key)
            given = source.number(*path)
            if given is not None:
                found[key] = max(found.get(key, 0), given)
                if len(members) > 1:
                    source.note(path, "it holds for the whole route: the largest of the group", "check it")
    return settings_part.routing_of(found)

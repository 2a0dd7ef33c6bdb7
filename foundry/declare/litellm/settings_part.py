"""LiteLLM's router_settings, litellm_settings, general_settings and guardrails as fields of our tables.

What it does not know: the model list, how tables are written.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from foundry.declare.litellm.source import Source
from foundry.located import Path

# Any: rows of a TOML document.

Table = dict[str, Any]
_STRATEGIES = {
    "simple-shuffle": "weighted", "least-busy": "least_loaded", "latency-based-routing": "lowest_ttft",
    "cost-based-routing": "cheapest", "usage-based-routing": "least_loaded", "usage-based-routing-v2": "least_loaded",
}  # fmt: skip
_WINDOWS = {
    "1s": "second", "1m": "minute", "60s": "minute", "1h": "hour", "60m": "hour", "24h": "day", "1d": "day", "7d": "week",
    "1w": "week", "30d": "month", "31d": "month", "1mo": "month",
}  # fmt: skip
_GUARDS = {
    "presidio": "pii", "hide-secrets": "secrets", "hide_secrets": "secrets", "detect_prompt_injection": "prompt_injection",
    "lakera": "prompt_injection", "lakera_v2": "prompt_injection", "lakera_prompt_injection": "prompt_injection",
}  # fmt: skip
_STAGES = {"pre_call": ["input"], "during_call": ["input"], "post_call": ["output", "stream"]}
_MOST_RETRIES = 10


def routing_of(found: dict[str, float]) -> Table:
    """LiteLLM's time-outs and retries as `routing`."""
    routing: Table = {}
    timeouts: Table = {}
    if found.get("timeout"):
        timeouts["first_byte_s"] = found["timeout"]
    if found.get("stream_timeout"):
        timeouts["between_chunks_s"] = found["stream_timeout"]
    if timeouts:
        routing["timeouts"] = timeouts
    retries = max(found.get("num_retries", -1), found.get("max_retries", -1))
    if retries >= 0:
        routing["retries"] = {"attempts": min(int(retries), _MOST_RETRIES)}
    return routing


def take_over(source: Source, routes: dict[str, Table], limits: dict[str, Table], gateway: Table) -> None:
    """Everything of the three settings sections that has an equivalent."""
    defaults = _defaults(source)
    for route in routes.values():
        route["routing"] = _laid_under(defaults, route.get("routing", {}))
        if not route["routing"]:
            del route["routing"]
    _policy(source, routes)
    _fallbacks(source, routes)
    _aliases(source, routes, limits)
    _cache(source, routes, gateway)
    _budgets(source, limits)
    _general(source, routes, limits, gateway)


def _laid_under(defaults: Table, own: Table) -> Table:
    merged = {**defaults, **own}
    for name in ("timeouts", "retries"):
        if name in defaults and name in own:
            merged[name] = {**defaults[name], **own[name]}
    return merged


def _defaults(source: Source) -> Table:
    found: dict[str, float] = {}
    for section, key, ours in (
        ("litellm_settings", "request_timeout", "timeout"),
        ("litellm_settings", "num_retries", "num_retries"),
        ("router_settings", "timeout", "timeout"),
        ("router_settings", "stream_timeout", "stream_timeout"),
        ("router_settings", "num_retries", "num_retries"),
    ):
        given = source.number(section, key)
        if given is not None:
            found[ours] = given
            if "timeout" in key:
                words = "it bounds the wait for the first byte (stream_timeout: between two chunks), not a whole stream"
                source.note((section, key), words, "set timeouts.total_s too if streams should be cut")
    routing = routing_of(found)
    seconds = source.number("router_settings", "retry_after")
    if seconds is not None:
        routing["retries"] = {**routing.get("retries", {}), "base_ms": seconds * 1000}
    health: Table = {}
    for section in ("litellm_settings", "router_settings"):
        fails = source.number(section, "allowed_fails")
        if fails is not None:
            health["min_requests"] = int(fails) + 1
            words = (
                "a target is taken out when half of its last requests failed, and at least so many were sent"
            )
            source.note(
                (section, "allowed_fails"), words, "set health.max_error_rate and health.min_requests"
            )
        cooldown = source.number(section, "cooldown_time")
        if cooldown:
            health["open_s"] = cooldown
    return routing | ({"health": health} if health else {})


def _policy(source: Source, routes: dict[str, Table]) -> None:
    path = ("router_settings", "routing_strategy")
    if not source.has(*path):
        _shuffle(routes)
        return
    strategy = str(source.take(*path))
    policy = _STRATEGIES.get(strategy)
    if policy is None:
        source.drop(path, f"there is no policy like '{strategy}'", "set [routes.NAME.routing] policy")
        return
    if strategy.startswith("usage-based"):
        source.note(
            path, "targets are chosen by what is in flight, not by tokens per minute", "check the policy"
        )
    if policy == "weighted":
        _shuffle(routes)
        return
    for route in routes.values():
        if len(route["targets"]) > 1:
            route["routing"] = {**route.get("routing", {}), "policy": policy}


def _shuffle(routes: dict[str, Table]) -> None:
    """LiteLLM's default."""
    for route in routes.values():
        if len(route["targets"]) > 1:
            route["routing"] = {**route.get("routing", {}), "policy": "weighted"}


def _aliases(source: Source, routes: dict[str, Table], limits: dict[str, Table]) -> None:
    base: Path = ("router_settings", "model_group_alias")
    for alias in source.keys(*base):
        given = source.peek(*base, alias)
        group = given.get("model") if isinstance(given, dict) else given
        if not isinstance(group, str) or group not in routes:
            source.drop(
                (*base, alias), f"it is another name for '{group}', which is no route", "make that route"
            )
            continue
        source.take(*base, alias, "model") if isinstance(given, dict) else source.take(*base, alias)
        routes[alias] = {**routes[group]}
        for limit in limits.values():
            if group in limit.get("routes", ()):
                limit["routes"] = [*limit["routes"], alias]
        source.note(
            (*base, alias), "another name is a route of its own with the same targets", "keep the two equal"
        )
        if source.peek(*base, alias, "hidden"):
            words = "a route is listed to every key that may use it"
            source.drop((*base, alias, "hidden"), words, "set allowed_routes of the keys")


def _fallbacks(source: Source, routes: dict[str, Table]) -> None:
    named: dict[str, list[str]] = {}
    for section in ("litellm_settings", "router_settings"):
        for place in source.places(section, "fallbacks"):
            for name in source.keys(section, "fallbacks", place):
                path: Path = (section, "fallbacks", place, name)
                named.setdefault(name, []).extend(_others(source, path, name, routes))
    for section in ("litellm_settings", "router_settings"):
        if not source.places(section, "default_fallbacks"):
            continue
        others = _others(source, (section, "default_fallbacks"), "", routes)
        for name in routes:
            named.setdefault(name, list(others))
    for name, others in named.items():
        kept = [
            other
            for other in dict.fromkeys(others)
            if other != name and name in routes and routes[other]["task"] == routes[name]["task"]
        ]
        if kept and name in routes and not _comes_back(name, kept, routes):
            routes[name]["routing"] = {**routes[name].get("routing", {}), "fallbacks": kept}
        elif kept:
            words = f"the fallbacks of '{name}' come back to it"
            source.note(
                ("router_settings", "fallbacks"), words, "they were left out: name them in one direction"
            )


def _others(source: Source, path: Path, name: str, routes: dict[str, Table]) -> list[str]:
    if name and name not in routes:
        source.drop(path, f"'{name}' is no route", "make that route first")
        return []
    given = source.take(*path)
    others = [other for other in given if isinstance(other, str)] if isinstance(given, list) else []
    for place, other in enumerate(given if isinstance(given, list) else []):
        if not isinstance(other, str) or other not in routes:
            source.drop((*path, place), f"'{other}' is no route", "make that route first")
        elif name and routes[other]["task"] != routes[name]["task"]:
            source.drop((*path, place), f"'{other}' computes something else", "name a route of the same task")
    return [other for other in others if other in routes]


def _comes_back(name: str, kept: list[str], routes: dict[str, Table]) -> bool:
    waiting, seen = list(kept), set(kept)
    while waiting:
        current = waiting.pop()
        if current == name:
            return True
        for other in routes[current].get("routing", {}).get("fallbacks", []):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return False


def _cache(source: Source, routes: dict[str, Table], gateway: Table) -> None:
    if not source.take("litellm_settings", "cache"):
        return
    base: Path = ("litellm_settings", "cache_params")
    kind = str(source.take(*base, "type") or "local")
    cache: Table = {"ttl_s": source.number(*base, "ttl") or 3600.0}
    if kind in {"redis", "redis-semantic", "valkey"}:
        cache["backend"] = "valkey"
        _valkey(source, base, gateway)
    elif kind != "local":
        words = f"there is no cache of the type '{kind}'"
        source.note((*base, "type"), words, "answers are kept in the memory of each replica")
    embedding = source.peek(*base, "redis_semantic_cache_embedding_model") or source.peek(
        *base, "qdrant_semantic_cache_embedding_model"
    )
    if kind.endswith("semantic") and isinstance(embedding, str) and embedding in routes:
        for key in ("redis_semantic_cache_embedding_model", "qdrant_semantic_cache_embedding_model"):
            source.take(*base, key)
        threshold = min(source.number(*base, "similarity_threshold") or 0.95, 1.0)
        cache["semantic"] = {"embedding_route": embedding, "threshold": threshold}
    for route in routes.values():
        if route["task"] in {"generate", "embed"}:
            semantic = route["task"] == "generate"
            route["cache"] = cache if semantic else {key: cache[key] for key in cache if key != "semantic"}


def _valkey(source: Source, base: Path, gateway: Table) -> None:
    """host and port as the setting that all share; a password is a secret."""
    host = source.peek(*base, "host")
    if not isinstance(host, str):
        return
    source.take(*base, "host")
    port = source.take(*base, "port") or 6379
    if host.startswith("os.environ/"):
        source.note((*base, "host"), "an address stands in the file", "write it in gateway.valkey_url")
        host, port = "SET-ME.invalid", 6379
    gateway["valkey_url"] = f"valkey://{host}:{port}/0"


def _budgets(source: Source, limits: dict[str, Table]) -> None:
    section = "litellm_settings"
    for prefix, name, scope in (
        ("max_budget", "budget", "organization"),
        ("max_end_user_budget", "user-budget", "user"),
    ):
        if source.has(section, prefix):
            _budget(source, limits, name, (section, prefix), (section, "budget_duration"), scope)
    base: Path = (section, "default_key_generate_params")
    if source.has(*base, "max_budget"):
        _budget(source, limits, "key-budget", (*base, "max_budget"), (*base, "budget_duration"), "key")
    for key, meter, window in (
        ("rpm_limit", "requests", "minute"), ("tpm_limit", "tokens", "minute"), ("max_parallel_requests", "concurrency", None),
    ):  # fmt: skip
        amount = source.number(*base, key)
        if amount is not None:
            limits[f"key-{meter}"] = _limit(meter, "key", int(amount), window)
            words = "it holds for every key, also for those that LiteLLM gave other limits"
            source.note((*base, key), words, "name the keys in subjects")


def _budget(
    source: Source, limits: dict[str, Table], name: str, path: Path, duration: Path, scope: str
) -> None:
    written = source.take(*duration)
    window = _WINDOWS.get(str(written)) if written else "total"
    if window is None:
        words = f"there is no window of '{written}': the budget was made one per month"
        source.note(duration, words, "choose second, minute, hour, day, week, month or total")
        window = "month"
    elif written:
        source.note(duration, "windows begin with the calendar, not with the first request", "set time_zone")
    amount = source.number(*path)
    if amount is not None:
        limits[name] = _limit("usd", scope, amount, window)


def _limit(meter: str, scope: str, amount: float, window: str | None) -> Table:
    limit: Table = {"meter": meter, "scope": scope, "amount": Decimal(str(amount))}
    return limit | ({"window": window} if window else {})


def _general(source: Source, routes: dict[str, Table], limits: dict[str, Table], gateway: Table) -> None:
    section = "general_settings"
    most = source.number(section, "max_parallel_requests")
    if most:
        source.note(
            (section, "max_parallel_requests"), "the cap holds for each replica of the gateway", "check it"
        )
        for route in routes.values():
            for target in route["targets"]:
                target.setdefault("max_concurrency", max(1, int(most)))
    everywhere = source.number(section, "global_max_parallel_requests")
    if everywhere:
        limits["all-in-flight"] = _limit("concurrency", "organization", int(everywhere), None)
    size_mb = source.number(section, "max_request_size_mb")
    if size_mb:
        gateway["max_body_bytes"] = max(1024, int(size_mb * 1024 * 1024))


def blocks(source: Source, found: dict[str, Table]) -> None:
    """`allowed_ips` as a rule that refuses all others."""
    addresses = source.take("general_settings", "allowed_ips")
    if isinstance(addresses, list) and addresses:
        found["allowed-ips"] = {"cidrs": [str(address) for address in addresses], "allow": True}


def guardrails(source: Source, found: dict[str, Table], routes: dict[str, Table]) -> None:
    """Each guardrail of a kind that we have as a profile; those that are on by default are attached to every route."""
    for place in source.places("guardrails"):
        base: Path = ("guardrails", place)
        name = str(source.take(*base, "guardrail_name") or f"guardrail-{place + 1}").lower().replace(" ", "-")
        params: Path = (*base, "litellm_params")
        given = str(source.take(*params, "guardrail") or "")
        kind = _GUARDS.get(given)
        if kind is None:
            source.drop(
                base, f"there is no guard like '{given}'", "see the kinds of guards in docs/guardrails.md"
            )
            continue
        mode = source.take(*params, "mode")
        modes = mode if isinstance(mode, list) else [mode or "pre_call"]
        stages = [stage for one in modes for stage in _STAGES.get(str(one), [])] or ["input"]
        action = "block" if kind == "prompt_injection" else "redact"
        guard: Table = {"kind": kind, "stages": list(dict.fromkeys(stages)), "action": action}
        entities = source.peek(*params, "pii_entities_config")
        if kind == "pii" and isinstance(entities, dict):
            source.take(*params, "pii_entities_config")
            guard["options"] = {"entities": list(entities)}
            if "BLOCK" in entities.values():
                guard["action"] = "block"
                words = "one guard has one action: all entities are blocked"
                source.note((*params, "pii_entities_config"), words, "make a guard for each action")
        found[name] = {"guards": [guard]}
        source.note(
            (*params, "guardrail"),
            f"our guard '{kind}' takes the place of '{given}'",
            "try it on your traffic",
        )
        if source.take(*params, "default_on"):
            for route in routes.values():
                route.setdefault("guardrails", []).append(name)
        else:
            source.note(base, "callers do not choose guardrails", f"name '{name}' at routes or keys")

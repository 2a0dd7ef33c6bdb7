"""One entry of LiteLLM's `model_list` as a target of ours, with the provider row that it needs.

What it does not know: groups, routing, the rest of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from foundry.declare.litellm.source import Source
from foundry.declare.model import OPERATOR, operator_price_id
from foundry.located import Path
from foundry.providers.vendors import vendors

# Any: values of a YAML document, rows of a TOML document.

VENDOR_OF = {
    "openai": "openai", "text-completion-openai": "openai", "custom_openai": "openai", "openai_like": "openai",
    "litellm_proxy": "openai", "azure": "azure-deployments", "azure_text": "azure-deployments", "anthropic": "anthropic",
    "gemini": "gemini", "bedrock": "bedrock", "bedrock_converse": "bedrock", "cohere": "cohere", "cohere_chat": "cohere",
    "hosted_vllm": "vllm", "vllm": "vllm", "ollama": "ollama", "ollama_chat": "ollama", "groq": "groq", "mistral": "mistral",
    "deepseek": "deepseek", "xai": "xai", "openrouter": "openrouter", "together_ai": "together", "fireworks_ai": "fireworks",
    "perplexity": "perplexity", "cerebras": "cerebras", "sambanova": "sambanova", "nvidia_nim": "nvidia",
    "deepinfra": "deepinfra", "huggingface": "huggingface", "nebius": "nebius", "moonshot": "moonshot", "zai": "zai",
    "novita": "novita", "dashscope": "dashscope", "baseten": "baseten",
}  # fmt: skip
"""LiteLLM's provider to the row of vendors.toml."""
_BARE = (("gpt-", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"), ("text-embedding-", "openai"),
         ("chatgpt-", "openai"), ("whisper", "openai"), ("tts-", "openai"), ("dall-e", "openai"), ("claude", "anthropic"))  # fmt: skip
"""Names that LiteLLM knows without a provider."""
_TASKS = {
    "chat": "generate", "completion": "generate", "responses": "generate", "embedding": "embed", "rerank": "rerank",
    "audio_transcription": "transcribe", "audio_speech": "speak", "image_generation": "image", "moderation": "moderate",
}  # fmt: skip
_TASK_BY_NAME = (("embed", "embed"), ("rerank", "rerank"), ("whisper", "transcribe"), ("transcribe", "transcribe"),
                 ("tts", "speak"), ("dall-e", "image"), ("gpt-image", "image"), ("moderation", "moderate"))  # fmt: skip
_MILLION, _ONE = Decimal(1_000_000), Decimal(1)
_PRICES = {
    "input_cost_per_token": ("input_per_mtok_usd", _MILLION),
    "output_cost_per_token": ("output_per_mtok_usd", _MILLION),
    "cache_read_input_token_cost": ("cached_input_per_mtok_usd", _MILLION),
    "cache_creation_input_token_cost": ("cache_write_per_mtok_usd", _MILLION),
    "input_cost_per_audio_token": ("audio_input_per_mtok_usd", _MILLION),
    "output_cost_per_audio_token": ("audio_output_per_mtok_usd", _MILLION),
    "input_cost_per_character": ("per_mchar_usd", _MILLION),
    "input_cost_per_second": ("per_audio_second_usd", _ONE),
    "output_cost_per_image": ("per_image_usd", _ONE),
    "input_cost_per_query": ("per_search_usd", _ONE),
    "input_cost_per_request": ("per_request_usd", _ONE),
}
_NO_KEY = frozenset({"", "none", "empty", "fake", "fake-key", "dummy", "anything", "not-needed", "sk-none"})
_VARIABLE = re.compile(r"^[A-Z][A-Z0-9_]+$")
_ENVIRONMENT = "os.environ/"


@dataclass
class Target:
    """A target in the making."""

    provider: str
    model: str
    task: str
    base_url: str | None = None
    row: dict[str, Any] | None = None
    """The provider row that it needs; None: a shipped one does."""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of the target: price, max_concurrency, weight."""


def read_target(source: Source, base: Path) -> Target | None:
    """The target of one entry, or None when we have no such provider (which is reported)."""
    params: Path = (*base, "litellm_params")
    name = str(source.take(*params, "model") or "")
    kind, model = _provider_of(source, params, name)
    if kind not in VENDOR_OF or not model or "*" in model:
        words = (
            "a model list that is made on the fly" if "*" in name else f"there is no provider for '{name}'"
        )
        instead = (
            "name each model in a route of its own"
            if "*" in name
            else "add [providers.NAME] if it speaks a known wire"
        )
        if kind == "vertex_ai":
            instead = "use the provider gemini with an API key"
        source.drop(base, words, instead)
        return None
    target = Target(VENDOR_OF[kind], model, _task(source, base, name))
    _address(source, params, target, kind)
    _secret(source, params, target)
    _price(source, base, target)
    most = source.number(*params, "max_parallel_requests")
    if most:
        target.fields["max_concurrency"] = max(1, int(most))
    return target


def _provider_of(source: Source, params: Path, name: str) -> tuple[str, str]:
    given = source.take(*params, "custom_llm_provider")
    if given:
        return str(given), name.removeprefix(f"{given}/")
    kind, slash, model = name.partition("/")
    if slash and (kind in VENDOR_OF or kind == "vertex_ai"):
        return kind, model
    if source.has(*params, "api_base"):
        return "openai", name
    known = next((vendor for prefix, vendor in _BARE if name.startswith(prefix)), "")
    return (known, name) if known else (kind, model)


def _task(source: Source, base: Path, name: str) -> str:
    mode = source.peek(*base, "model_info", "mode")
    if isinstance(mode, str) and mode in _TASKS:
        source.take(*base, "model_info", "mode")
        return _TASKS[mode]
    return next((task for part, task in _TASK_BY_NAME if part in name.lower()), "generate")


def _address(source: Source, params: Path, target: Target, kind: str) -> None:
    """Base URL, API version and region: in the target where a shipped row does, else in a row of its own."""
    given = source.peek(*params, "api_base") or source.peek(*params, "base_url")
    for key in ("api_base", "base_url"):
        source.take(*params, key)
    shipped = vendors()[target.provider]
    if isinstance(given, str) and given.startswith(_ENVIRONMENT):
        words = (
            f"an address is no secret, it stands in the file: {given.removeprefix(_ENVIRONMENT)} is not read"
        )
        source.note((*params, "api_base"), words, "write the address in place of https://SET-ME.invalid")
        given = "https://SET-ME.invalid"
    if isinstance(given, str) and given:
        url = given.rstrip("/")
        if shipped.prefix == "/v1" and "openai" in shipped.wires:
            if not url.endswith("/v1") and kind not in {"ollama", "ollama_chat"}:
                target.row = _copy(target.provider) | {"prefix": ""}
            url = url.removesuffix("/v1")
        if target.provider == "openai" and not (urlsplit(url).hostname or "").endswith("openai.com"):
            title = {"title": urlsplit(url).hostname or url, "wires": ["openai"]}
            target.row = (target.row or _copy(target.provider)) | title
        target.base_url = url
    _dialect(source, params, target)


def _dialect(source: Source, params: Path, target: Target) -> None:
    """Azure's API version and AWS's region: options of the row."""
    shipped = vendors()[target.provider]
    if target.provider == "azure-deployments":
        version = source.take(*params, "api_version")
        if version and str(version) != shipped.options.get("api_version"):
            target.row = _copy(target.provider) | {
                "options": {**shipped.options, "api_version": str(version)}
            }
    if target.provider == "bedrock":
        target.model = target.model.removeprefix("converse/").removeprefix("invoke/")
        region = source.take(*params, "aws_region_name")
        if isinstance(region, str) and region.startswith(_ENVIRONMENT):
            source.note(
                (*params, "aws_region_name"), "a region stands in the file", "write it in options.region"
            )
            region = None
        if region and region != shipped.options.get("region"):
            target.row = _copy(target.provider) | {"options": {**shipped.options, "region": str(region)}}


def _secret(source: Source, params: Path, target: Target) -> None:
    """The variable with the key; a key that stands in the file itself is told, never copied."""
    path: Path = (*params, "api_key")
    if not source.has(*path):
        return
    given = str(source.take(*path) or "")
    variable = given.removeprefix(_ENVIRONMENT)
    shipped = vendors()[target.provider]
    if not given.startswith(_ENVIRONMENT):
        if given.lower() in _NO_KEY:
            if shipped.secret_env is not None and shipped.secret_required:
                row = target.row or _copy(target.provider)
                target.row = {
                    key: value for key, value in row.items() if key not in {"secret_env", "secret_required"}
                }
            return
        variable = shipped.secret_env or f"{target.provider.upper().replace('-', '_')}_API_KEY"
        words = "the key itself stands in the file; it was not copied"
        source.note(path, words, f"export {variable} where the gateway runs, and change the key")
    elif not _VARIABLE.match(variable):
        words = f"the variable {variable} must be written in capitals"
        variable = re.sub(r"[^A-Z0-9_]", "_", variable.upper())
        source.note(path, words, f"export {variable} where the gateway runs")
    if variable != shipped.secret_env:
        target.row = (target.row or _copy(target.provider)) | {"secret_env": variable}


def _price(source: Source, base: Path, target: Target) -> None:
    price: dict[str, Any] = {}
    for where in ("model_info", "litellm_params"):  # the latter wins, as it does in LiteLLM
        for name, (ours, scale) in _PRICES.items():
            if not source.has(*base, where, name):
                continue
            try:
                amount = Decimal(str(source.take(*base, where, name))) * scale
            except InvalidOperation:
                source.drop((*base, where, name), "it is no number", "write a price in [[prices]]")
                continue
            if not 0 <= amount < _MILLION:
                source.drop(
                    (*base, where, name), f"{amount} US dollars is no price", "write a price in [[prices]]"
                )
                continue
            places = 6 if scale == _MILLION else 9
            price[ours] = round(amount, places)
            if price[ours] != amount:
                source.note((*base, where, name), f"rounded to {places} decimals", "check the price")
    if price:
        name = operator_price_id(target.provider, target.model)
        target.fields["price"] = {"price_id": name, "source": OPERATOR, **price}


def _copy(name: str) -> dict[str, Any]:
    """A shipped row as the beginning of a row of its own."""
    row = vendors()[name].model_dump(mode="json", exclude_unset=True, exclude={"source", "read"})
    return {key: value for key, value in row.items() if value is not None}


def row_name(target: Target, taken: dict[str, dict[str, Any]]) -> str:
    """A name for the target's row that is free, or that has this very row: from its variable, host or number."""
    row = target.row or {}
    host = urlsplit(target.base_url or "").hostname or ""
    hint = (
        str(row.get("secret_env", "")).lower().replace("_", "-").removesuffix("-api-key").removesuffix("-key")
    )
    region = row.get("options", {}).get("region", "")
    hints = [one for one in (region, hint, host.partition(".")[0]) if one and one != target.provider]
    stem = (
        "-".join([target.provider, *hints[:1]]) if not hints or target.provider not in hints[0] else hints[0]
    )
    stem = re.sub(r"[^a-z0-9_.-]", "-", stem.lower())
    number, name = 1, stem
    while (name in taken and taken[name] != row) or name in vendors():
        number += 1
        name = f"{stem}-{number}"
    return name

"""Why a LiteLLM key has no equivalent, and what to do instead: a table by pattern, first match wins.

`*` stands for one step of the path. What it does not know: which keys are taken over (`convert.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from foundry.located import Path

_LOGS = "use `GET /v1/usage`, the metrics endpoint and the logs, which are always on"
_KEYS = 'make keys with `foundry keys create`; limits for them are [limits.NAME] with scope = "key"'
_PROBES = "set [routes.NAME.routing.health] probe_interval_s"
_PARAMETERS = "let callers send it, or set it on the deployment"
_DESCRIBES = "leave it out"

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "general_settings.master_key",
        "the admin key is generated, and a secret is never in a file",
        "use $FOUNDRY_HOME/secrets/admin.key",
    ),
    (
        "general_settings.database_url",
        "that database holds LiteLLM's tables",
        "set [control] database_url_file to a PostgreSQL of its own",
    ),
    ("general_settings.database_*", "the pool is sized by the control API", "leave it out"),
    ("general_settings.alerting*", "alerts come from metrics", "alert on the gateway's Prometheus metrics"),
    ("general_settings.*health_check*", "health is a matter of each route", _PROBES),
    ("general_settings.custom_auth", "there is no code in the configuration", _KEYS),
    ("general_settings.*jwt*", "callers show virtual keys", _KEYS),
    (
        "general_settings.store_model_in_db",
        "routes made by calls and routes of the file always live together",
        "leave it out",
    ),
    (
        "general_settings.pass_through_endpoints*",
        "nothing passes unmetered",
        "add [providers.NAME] and a route",
    ),
    ("general_settings.*spend*", "usage is always recorded and kept by the metrics store", _LOGS),
    (
        "general_settings.key_management*",
        "secrets are files or environment variables",
        "mount them as files in $FOUNDRY_HOME/secrets",
    ),
    ("litellm_settings.*callback*", "there are no callbacks into the request path", _LOGS),
    ("litellm_settings.*langfuse*", "there are no callbacks into the request path", _LOGS),
    ("litellm_settings.turn_off_message_logging", "messages are never logged", _DESCRIBES),
    ("litellm_settings.redact_user_api_key_info", "keys are never logged", _DESCRIBES),
    (
        "litellm_settings.drop_params",
        "a parameter that a target does not have is an error that names both",
        "stop sending it, or choose a target that has it",
    ),
    (
        "litellm_settings.modify_params",
        "requests are not changed behind the caller's back",
        "correct them at the caller",
    ),
    ("litellm_settings.set_verbose", "it is a setting of the log", 'set log_level = "DEBUG"'),
    ("litellm_settings.json_logs", "logs are always structured", _DESCRIBES),
    (
        "litellm_settings.context_window_fallbacks*",
        "fallbacks follow failures, not the length of a prompt",
        "send long prompts to a route whose targets have the window",
    ),
    (
        "litellm_settings.content_policy_fallbacks*",
        "a refusal is an answer, not a failure",
        "name the other route in the request",
    ),
    (
        "litellm_settings.cache_params.supported_call_types*",
        "what a route caches follows from its task",
        "set [routes.NAME.cache] only where it is wanted",
    ),
    (
        "litellm_settings.cache_params.mode",
        "a cache is on or off by route",
        "remove [routes.NAME.cache] where it is not wanted",
    ),
    (
        "litellm_settings.cache_params.*",
        "the cache is in memory or in Valkey, set once",
        "set gateway.valkey_url",
    ),
    ("litellm_settings.default_*_params*", "objects have no templates", _KEYS),
    ("litellm_settings.upperbound_key_generate_params*", "keys are made by admins only", _KEYS),
    ("litellm_settings.key_generation_settings*", "keys are made by admins only", _KEYS),
    ("litellm_settings.*mcp*", "tool servers are the caller's affair", _DESCRIBES),
    (
        "litellm_settings.*internal_user*",
        "people have no budgets of their own, keys and projects have",
        _KEYS,
    ),
    (
        "router_settings.context_window_fallbacks*",
        "fallbacks follow failures, not the length of a prompt",
        "send long prompts to a route whose targets have the window",
    ),
    (
        "router_settings.content_policy_fallbacks*",
        "a refusal is an answer, not a failure",
        "name the other route in the request",
    ),
    (
        "router_settings.retry_policy*",
        "which failures are retried is fixed: those before the first byte that a retry can help",
        "set [routes.NAME.routing.retries]",
    ),
    (
        "router_settings.allowed_fails_policy*",
        "a target is taken out by its rate of failures of all kinds",
        "set [routes.NAME.routing.health]",
    ),
    (
        "router_settings.disable_cooldowns",
        "targets that fail are always taken out",
        "set health.max_error_rate = 1",
    ),
    (
        "router_settings.enable_pre_call_checks",
        "prompts are not counted before they are sent",
        "send long prompts to a route whose targets have the window",
    ),
    ("router_settings.*tag*", "requests are not routed by tags", "make a route for each group of targets"),
    ("router_settings.redis_*", "what replicas share lies in one Valkey, set once", "set gateway.valkey_url"),
    ("router_settings.routing_strategy_args*", "the policies have no arguments", _DESCRIBES),
    ("model_list.*.model_info.*", "it describes the model; nothing here reads it", _DESCRIBES),
    (
        "model_list.*.litellm_params.aws_*",
        "credentials come from botocore's own chain",
        "set AWS_PROFILE or an instance role where the gateway runs",
    ),
    (
        "model_list.*.litellm_params.vertex_*",
        "there is no provider with Google Cloud's service accounts",
        "use the provider gemini with an API key",
    ),
    (
        "model_list.*.litellm_params.tags*",
        "requests are not routed by tags",
        "make a route for each group of targets",
    ),
    (
        "model_list.*.litellm_params.*budget*",
        "a single target has no budget",
        'set [limits.NAME] with scope = "model" and meter = "usd"',
    ),
    ("model_list.*.litellm_params.mock_*", "there are no canned answers", _DESCRIBES),
    (
        "model_list.*.litellm_params.*header*",
        "targets get the headers of their provider",
        "put a proxy of yours before it: base_url",
    ),
    (
        "model_list.*.litellm_params.organization",
        "targets get the headers of their provider",
        "use a key of that organisation",
    ),
    ("model_list.*.litellm_params.*", "it is a default for a parameter of the request", _PARAMETERS),
    ("environment_variables.*", "the environment is not set by a file", "export it where the gateway runs"),
    ("guardrails.*", "no guard reads it", "see the options of the guard's kind in docs/guardrails.md"),
    ("mcp_servers*", "tool servers are the caller's affair", _DESCRIBES),
    ("callback_settings*", "there are no callbacks into the request path", _LOGS),
    (
        "credential_list*",
        "a provider's secret is one environment variable",
        "name it in [providers.NAME] secret_env",
    ),
    ("*", "this version knows nothing like it", "tell us what you use it for"),
)


def explain(path: Path) -> tuple[Path, str, str]:
    """Where to report a leaf (keys of lists and of nested options are told once), why it is dropped, and what instead."""
    dotted = ".".join("0" if isinstance(part, int) else part for part in path)
    for pattern, reason, instead in REASONS:
        if fnmatchcase(dotted, pattern):
            return _told_at(path), reason, instead
    raise AssertionError(dotted)  # the last pattern matches everything


def _told_at(path: Path) -> Path:
    """Lists of plain values are one thing."""
    return path[:-1] if path and isinstance(path[-1], int) else path


def patterns() -> Iterator[str]:
    """Every pattern, for the test that none is shadowed."""
    return (pattern for pattern, _reason, _instead in REASONS)

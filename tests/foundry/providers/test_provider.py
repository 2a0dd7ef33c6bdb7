"""Where each wire of each provider lies, how requests are authenticated, and that AWS's signatures verify."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from botocore.session import Session

from foundry.errors import ConfigurationError
from foundry.providers.aws import AwsSigner
from foundry.providers.families import families, family
from foundry.providers.provider import Provider, provider
from foundry.providers.vendors import Wire, merged, vendors
from tests.support.sigv4 import verify_signature

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in vendors().values():
        if row.secret_env and row.auth != "aws-sigv4":
            monkeypatch.setenv(row.secret_env, "sk-vendor")


@pytest.mark.parametrize(
    ("name", "wire", "path", "expected"),
    [
        ("openai", "openai", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("groq", "openai-responses", RESPONSES, "https://api.groq.com/openai/v1/responses"),
        ("deepseek", "openai", CHAT, "https://api.deepseek.com/v1/chat/completions"),
        ("deepseek", "anthropic", MESSAGES, "https://api.deepseek.com/anthropic/v1/messages"),
        ("perplexity", "openai", CHAT, "https://api.perplexity.ai/chat/completions"),
        ("perplexity", "openai-responses", RESPONSES, "https://api.perplexity.ai/v1/responses"),
        ("deepinfra", "openai", CHAT, "https://api.deepinfra.com/v1/openai/chat/completions"),
        ("zai", "openai", CHAT, "https://api.z.ai/api/paas/v4/chat/completions"),
        ("cohere", "cohere", "/v2/rerank", "https://api.cohere.com/v2/rerank"),
        ("cohere", "openai", CHAT, "https://api.cohere.ai/compatibility/v1/chat/completions"),
        (
            "gemini",
            "gemini",
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse",
        ),
        (
            "bedrock",
            "bedrock",
            "/model/a%3A0/converse",
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/a%3A0/converse",
        ),
    ],
)
@pytest.mark.usefixtures("secrets")
def test_each_surface_lies_where_its_vendor_says(name: str, wire: Wire, path: str, expected: str) -> None:
    assert provider(name).url(wire, path, model="m") == expected


@pytest.mark.usefixtures("secrets")
def test_azure_names_the_deployment_in_the_path_or_in_the_body() -> None:
    table = merged({name: {"options": {"resource": "acme"}} for name in ("azure", "azure-deployments")})
    old, new = provider("azure-deployments", table), provider("azure", table)
    assert old.url("openai", CHAT, model="my gpt") == (
        "https://acme.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"
    )
    assert (
        new.url("openai", CHAT, model="my gpt") == "https://acme.openai.azure.com/openai/v1/chat/completions"
    )
    assert dict(old.headers_for("", b"")) == {"api-key": "sk-vendor"}


@pytest.mark.usefixtures("secrets")
def test_a_missing_option_or_url_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\[providers\.azure\.options\]"):
        provider("azure").url("openai", CHAT, model="m")
    with pytest.raises(ConfigurationError, match="base_url"):
        provider("vllm").url("openai", CHAT, model="m")


@pytest.mark.usefixtures("secrets")
def test_a_targets_own_url_goes_before_the_rows() -> None:
    ours = provider("azure", base_url="http://127.0.0.1:9")
    assert ours.url("openai", CHAT, model="m") == "http://127.0.0.1:9/openai/v1/chat/completions"
    assert provider("cohere", base_url="http://127.0.0.1:9").base_url == "http://127.0.0.1:9"


@pytest.mark.parametrize("name", sorted(set(vendors()) - {"bedrock"}))
@pytest.mark.usefixtures("secrets")
def test_every_wire_of_every_row_has_a_url_and_headers(name: str) -> None:
    ours = provider(name, base_url="http://127.0.0.1:9")
    assert ours.fresh
    for wire in ours.wires:
        assert ours.url(wire, "/v1/x", model="m").startswith("http://127.0.0.1:9/")
        headers = ours.headers_for("", b"", wire=wire)
        assert headers is ours.headers_for("other", b"other", wire=wire)  # worked out once
        assert list(headers.values()) in ([], ["sk-vendor"], ["Bearer sk-vendor"])


def test_each_way_to_authenticate(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variable, wire, expected in (
        ("openai", "OPENAI_API_KEY", "openai", {"authorization": "Bearer k"}),
        ("anthropic", "ANTHROPIC_API_KEY", "anthropic", {"x-api-key": "k"}),
        ("gemini", "GEMINI_API_KEY", "gemini", {"x-goog-api-key": "k"}),
        ("deepseek", "DEEPSEEK_API_KEY", "anthropic", {"x-api-key": "k"}),
        ("bedrock", "AWS_BEARER_TOKEN_BEDROCK", "bedrock", {"authorization": "Bearer k"}),
    ):
        monkeypatch.setenv(variable, "k")
        assert dict(provider(name).headers_for("", b"", wire=wire)) == expected  # type: ignore[arg-type]  # from a table


def test_a_missing_key_is_named_when_it_is_needed_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    ours = provider("groq")
    assert ours.base_url == "https://api.groq.com/openai"
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        ours.require_secret()
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        ours.headers_for("", b"")
    assert dict(provider("vllm", base_url="http://127.0.0.1:9").headers_for("", b"")) == {}


def test_a_protocols_own_wire_is_tried_first() -> None:
    ours = provider("vllm", base_url="http://127.0.0.1:9")
    assert ours.wires_for("chat") == ("openai", "openai-responses", "anthropic")
    assert ours.wires_for("messages") == ("anthropic", "openai", "openai-responses")
    assert ours.wires_for("responses") == ("openai-responses", "openai", "anthropic")
    assert provider("cohere").wires_for("embeddings") == ("openai", "cohere")
    assert provider("gemini").wires_for("messages") == ("gemini",)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which botocore's chain finds nothing, and asks nobody on the network."""
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


async def ready(ours: Provider) -> Provider:
    assert not ours.fresh
    await ours.refresh()
    assert ours.fresh
    return ours


@pytest.mark.usefixtures("no_aws")
async def test_bedrock_requests_are_signed_and_the_signature_verifies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    ours = await ready(provider("bedrock"))
    url = ours.url("bedrock", "/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse", model="x")
    headers = dict(ours.headers_for(url, b'{"a":1}'))
    assert "/us-east-1/bedrock/aws4_request" in headers["authorization"]
    host = "bedrock-runtime.us-east-1.amazonaws.com"
    sent = {**headers, "host": host}
    assert (
        verify_signature("POST", url, sent, b'{"a":1}', key_id="AKIDEXAMPLE", secret="wJalrXUtnFEMI") is None
    )
    assert verify_signature("POST", url, sent, b'{"a":2}', key_id="AKIDEXAMPLE", secret="wJalrXUtnFEMI")
    assert verify_signature("POST", url, sent, b'{"a":1}', key_id="AKIDEXAMPLE", secret="another")


@pytest.mark.usefixtures("no_aws")
async def test_credentials_come_from_a_profile_and_the_region_from_the_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        "[prod]\naws_access_key_id=AKPROD\naws_secret_access_key=s\naws_session_token=tok\n", encoding="utf-8"
    )
    table = merged({"bedrock": {"options": {"profile": "prod"}}})
    base = "https://bedrock-runtime.eu-central-1.amazonaws.com"
    ours = await ready(provider("bedrock", table, base_url=base))
    headers = ours.headers_for(base + "/model/m/converse", b"{}")
    assert "Credential=AKPROD/" in headers["authorization"]
    assert "/eu-central-1/bedrock/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "tok"


@pytest.mark.usefixtures("no_aws")
async def test_missing_aws_credentials_name_the_ways_to_give_them() -> None:
    ours = await ready(provider("bedrock"))
    with pytest.raises(ConfigurationError, match=r"AWS_ACCESS_KEY_ID.*AWS_PROFILE.*AWS_BEARER_TOKEN_BEDROCK"):
        ours.headers_for("https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse", b"{}")


@pytest.mark.usefixtures("no_aws")
async def test_the_search_for_credentials_is_one_and_not_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two waiters, one search, in another thread."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "B")
    threads: list[int] = []
    found = Session.get_credentials

    def noted(self: Session) -> object:
        threads.append(threading.get_ident())
        return found(self)

    monkeypatch.setattr(Session, "get_credentials", noted)
    signer = AwsSigner(service="bedrock", region="us-east-1")
    await asyncio.gather(signer.refresh(), signer.refresh())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("o3-mini", "openai-reasoning"),
        ("gpt-5.4-mini", "openai-reasoning"),
        ("openai/gpt-5", "openai-reasoning"),
        ("gpt-4o-mini", "openai-chat"),
        ("openai/gpt-oss-120b", "openai-open"),
        ("claude-opus-4-1-20250805", "claude-thinking"),
        ("claude-opus-4-6", "claude-adaptive"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-thinking"),
        ("claude-sonnet-5-5", "claude-5"),
        ("claude-3-5-haiku-20241022", "claude"),
        ("claude-3-7-sonnet-20250219", "claude-thinking"),
        ("gemini-2.5-pro", "gemini-2-5"),
        ("gemini-3.8-flash", "gemini"),
        ("us.amazon.nova-2-lite-v1:0", "nova-2"),
        ("amazon.nova-pro-v1:0", "nova"),
        ("llama-3.3-70b-versatile", None),
    ],
)
def test_models_fall_into_their_families(model: str, expected: str | None) -> None:
    found = family(model)
    assert next((name for name, row in families().items() if row is found), None) == expected


@pytest.mark.usefixtures("secrets")
def test_a_legs_options_are_the_familys_under_the_providers() -> None:
    table = merged({"openai": {"options": {"max_tokens_field": "max_tokens"}}})
    assert provider("openai").options_for("o3")["max_tokens_field"] == "max_completion_tokens"
    assert provider("openai", table).options_for("o3")["max_tokens_field"] == "max_tokens"
    assert provider("groq").options_for("llama-3.3-70b-versatile") == {}
    assert "refuses" in provider("bedrock").options_for("us.anthropic.claude-sonnet-5-v1:0")

"""Verifies AWS signatures as a service does: from the headers that arrived, with the secret it knows."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

_AUTHORIZATION = re.compile(
    r"^AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<signed>[^,]+), Signature=(?P<signature>[0-9a-f]{64})$"
)
_SKEW_S = 300


def verify_signature(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, key_id: str, secret: str
) -> str | None:
    """What is wrong with a request's signature, or None."""
    lower = {name.lower(): value for name, value in headers.items()}
    match = _AUTHORIZATION.match(lower.get("authorization", ""))
    if match is None:
        return "no AWS4-HMAC-SHA256 authorization"
    if match["key"] != key_id:
        return f"unknown access key {match['key']}"
    stamp = lower.get("x-amz-date", "")
    signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs((datetime.now(UTC) - signed_at).total_seconds()) > _SKEW_S:
        return f"signed at {stamp}: too old"
    signed = match["signed"].split(";")
    if not {"host", "x-amz-date"} <= set(signed):
        return "host and x-amz-date must be signed"
    auth = SigV4Auth(ReadOnlyCredentials(key_id, secret, None), match["service"], match["region"])
    request = AWSRequest(method=method, url=url, data=body, headers={name: lower[name] for name in signed})
    request.context["timestamp"] = stamp
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return None if hmac.compare_digest(expected, match["signature"]) else "the signature does not match"

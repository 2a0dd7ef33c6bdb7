"""Streams that are cut: what the meters say of their counts, and how they end for a caller of the Responses API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry.codecs.anthropic_through import AnthropicMeter
from foundry.codecs.base import Call
from foundry.codecs.responses_through import ResponsesMeter
from foundry.errors import UpstreamBroke
from tests.foundry.codecs import wires

BROKE = UpstreamBroke("it died")
CREATED = {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "status": "in_progress"}}  # fmt: skip
DELTA = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "hi", "item_id": "m"}


def _meter() -> ResponsesMeter:
    return ResponsesMeter(Call(model="public", stream=True, fields={}))


def _event(told: bytes) -> dict[str, Any]:
    name, data = told.decode().strip().split("\n")
    event = json.loads(data.removeprefix("data: "))
    assert name == f"event: {event['type']}"
    return event


@pytest.mark.parametrize("said", [b"", wires.named({"type": "error", "sequence_number": 2, "message": "x"})])
def test_a_response_fails_with_the_next_number_under_its_own_id(said: bytes) -> None:
    meter = _meter()
    meter.feed(wires.named(CREATED, DELTA) + said)
    event = _event(meter.failure(BROKE, "req_1") or b"")
    assert (event["type"], event["sequence_number"]) == ("response.failed", 2)
    assert (event["response"]["id"], event["response"]["status"]) == ("resp_1", "failed")
    assert event["response"]["model"] == "public"
    assert event["response"]["error"] == {"code": "server_error", "message": "it died (request req_1)"}


def test_a_response_that_never_began_has_no_end_of_its_own() -> None:
    assert _meter().failure(BROKE, "req_1") is None


def test_output_is_estimated_until_anthropic_tells_it() -> None:
    meter = AnthropicMeter()
    head, separator, _ = wires.ANTHROPIC_STREAM.partition(b"event: message_delta")
    assert separator
    assert not meter.estimates
    meter.feed(head)
    assert meter.estimates
    cut = meter.counts()
    assert cut is not None
    assert cut.output_tokens >= meter.estimated_output_tokens() > 0
    meter.feed(wires.ANTHROPIC_STREAM[len(head) :])
    assert not meter.estimates

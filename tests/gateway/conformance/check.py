"""One cell played and held against what it must come to.

What it does not know: how expectations are worked out, how requests are sent.
"""

from __future__ import annotations

import json
from decimal import Decimal

from tests.gateway.conformance.cells import Cell
from tests.gateway.conformance.expect import Expected
from tests.gateway.conformance.expect_media import expect
from tests.gateway.conformance.fallbacks import TROUBLES, Fallback
from tests.gateway.conformance.money import COLUMNS, cost_usd
from tests.gateway.conformance.refusals import PATHS, Refusal
from tests.gateway.conformance.rig import Record, Rig, target_id
from tests.gateway.conformance.seen import REQUEST_ID, Seen, Wired
from tests.support.openai_script import TEXT
from tests.support.vendor_script import WORDS

_WORDED = frozenset({"chat", "completions", "responses", "messages", "transcription"})
_PIECES = frozenset({"speech", "images"})
_END_MARKERS = {
    "chat": b"data: [DONE]\n\n",
    "completions": b"data: [DONE]\n\n",
    "messages": b"event: message_stop\n",
    "responses": b"event: response.completed\n",
    "transcription": b"transcript.text.done",
    "images": b"image_generation.completed",
}
_TELLS_NO_USE = frozenset({"moderations", "speech"})


async def check(rig: Rig, cell: Cell) -> None:
    """Play a cell and compare everything."""
    expected = expect(cell)
    seen, wired = await rig.play(cell)
    record = await _only_record(rig, cell.id)
    _check_record(cell, expected, wired, record)
    assert record.get("target_id", "") == (target_id(cell.kind, cell.target) if cell.served else "")
    assert "attempts" not in record
    _check_answer(cell, expected, seen, wired)


async def check_fallback(rig: Rig, cell: Fallback) -> None:
    """Play a cell with two targets: one answer, one record, the sum of both attempts."""
    expected = cell.expected()
    seen, wired = await rig.play(cell)
    record = await _only_record(rig, cell.id)
    _check_record(cell, expected, wired, record)
    _check_answer(cell, expected, seen, wired)
    first, second = (target_id(cell.first, cell.first_target), target_id(cell.kind, cell.target))
    assert record["target_id"] == second
    if cell.trouble != "continue":  # the head of a stream that goes on elsewhere is out already
        assert (wired.headers["x-foundry-target"], wired.headers["x-foundry-attempts"]) == (second, "2")
    _, _, status, code = TROUBLES[cell.trouble]
    attempts = json.loads(record["attempts"])
    assert [(one["target_id"], one["outcome"], one.get("error_code", "")) for one in attempts] == [
        (first, "failed", code),
        (second, "completed", ""),
    ]
    assert [one.get("status", 0) for one in attempts] == [status, 200]
    counts = cell.first_counts(), cell.second_counts()
    assert [Decimal(one["cost_usd"]) for one in attempts] == [cost_usd(one) for one in counts]


async def check_refusal(rig: Rig, refusal: Refusal) -> None:
    """Nobody is asked, nothing is charged, and the error names parameter and target."""
    answer = await rig.http.post(
        PATHS[refusal.protocol], json=refusal.body(), headers={REQUEST_ID: refusal.id}
    )
    record = await _only_record(rig, refusal.id)
    error = answer.json()["error"]
    assert answer.status_code == 400
    for name in (f"'{refusal.param}'", target_id(refusal.kind, refusal.cell.target)):
        assert name in error["message"]
    if refusal.protocol != "messages":
        assert (error["code"], error["param"]) == ("unsupported_parameter", refusal.param)
    told = record["outcome"], record["error_code"], record["status"], Decimal(record["cost_usd"])
    assert told == ("rejected", "unsupported_parameter", 400, 0)


async def _only_record(rig: Rig, request_id: str) -> Record:
    records = await rig.records(request_id)
    assert len(records) == 1, "exactly one usage record"
    return records[0]


def _check_record(cell: Cell, expected: Expected, wired: Wired, record: Record) -> None:
    counts = expected.counts_of(wired.request_bytes)
    assert wired.status == expected.status
    status = expected.status if expected.recorded_status is None else expected.recorded_status
    told = (
        record["status"],
        record["outcome"],
        record.get("error_code", ""),
        record.get("usage_source", "none"),
    )
    assert told == (status, expected.outcome, expected.error_code, expected.usage_source)
    assert {name: record[name] for name in COLUMNS if record.get(name)} == {
        name: value for name, value in counts.items() if value
    }
    assert Decimal(record["cost_usd"]) == expected.cost_usd(wired.request_bytes)
    assert (record["route"], record["protocol"].startswith(cell.protocol[:5])) == (cell.model, True)
    assert record.get("streamed", False) is cell.stream
    if wired.status == 200 and not cell.stream:
        assert Decimal(wired.headers["x-foundry-cost-usd"]) == Decimal(record["cost_usd"])


def _check_answer(cell: Cell, expected: Expected, seen: Seen, wired: Wired) -> None:
    if expected.outcome == "aborted":
        assert seen.left
        assert not seen.error_message
    elif expected.outcome == "completed":
        assert not seen.error_message
        _check_whole(cell, expected, seen, wired)
    else:
        _check_failure(cell, expected, seen, wired)
    if not cell.stream or wired.status != 200:
        return
    if cell.protocol in _WORDED:
        lost = cell.scenario == "last" and cell.wire == "gemini"  # its last chunk has the last word
        assert seen.text == "".join(WORDS[: cell.words - lost])
    if cell.protocol in _PIECES:
        lost = cell.scenario == "last" and cell.protocol == "speech"
        assert seen.text == f"{cell.words - lost} pieces"


def _check_whole(cell: Cell, expected: Expected, seen: Seen, wired: Wired) -> None:
    assert wired.ended
    if cell.protocol in _WORDED and not cell.stream:
        assert seen.text == TEXT
    if cell.stream and cell.protocol in _END_MARKERS:
        marker = _END_MARKERS[cell.protocol]
        assert wired.body.count(marker) == 1
        assert b"\n\n" not in wired.body.rpartition(marker)[2].strip(), "nothing comes behind the end marker"
    if cell.protocol in _TELLS_NO_USE or expected.usage_source != "reported" or "images" in expected.counts:
        return
    assert seen.usage is not None, "the caller is told the use that is recorded"
    assert seen.usage == {name: expected.counts.get(name, 0) for name in seen.usage}


def _check_failure(cell: Cell, expected: Expected, seen: Seen, wired: Wired) -> None:
    if cell.protocol == "speech" and wired.status == 200:
        assert not wired.ended, "sound has no error event: the connection is broken off"
        return
    assert seen.error_message
    if seen.usage and cell.protocol != "messages":  # it came before the end was missing
        assert seen.usage == {name: expected.counts.get(name, 0) for name in seen.usage}
    if cell.stream and wired.status == 200:
        assert _END_MARKERS[cell.protocol] not in wired.body
    if cell.protocol == "messages":
        return  # Anthropic's errors have types, no codes
    if cell.protocol == "responses" and cell.stream and wired.status == 200:
        assert seen.error_code == "server_error", "the protocol's own word, in response.failed"
        return
    assert seen.error_code == expected.error_code
    if not cell.served:
        assert target_id(cell.kind, cell.target) in seen.error_message, "the error names the target"

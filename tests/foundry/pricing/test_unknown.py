"""Requests without a known price are counted each, and told once per target."""

from __future__ import annotations

from structlog.testing import capture_logs

from foundry.pricing.unknown import UnknownPrices


def test_each_is_counted_and_each_target_told_once() -> None:
    unknown = UnknownPrices()
    with capture_logs() as logs:
        for target in ("openai/a", "openai/a", "groq/b", "openai/a"):
            unknown.note(target, "no price is known")
    assert unknown.total == 4
    assert unknown.by_target() == {"openai/a": 3, "groq/b": 1}
    assert [(line["event"], line["log_level"], line["target"]) for line in logs] == [
        ("price_unknown", "warning", "openai/a"),
        ("price_unknown", "warning", "groq/b"),
    ]

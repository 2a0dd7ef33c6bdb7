"""Quoting for ClickHouse's SQL, where a value cannot be bound: names and settings. What it does not know: statements."""

from __future__ import annotations


def quoted_identifier(name: str) -> str:
    """A name in backticks."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quoted_string(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

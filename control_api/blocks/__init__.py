"""Blocking rules: made, replaced, listed, deleted by name."""

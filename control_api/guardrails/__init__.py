"""Guardrail profiles: made, replaced, listed, deleted by name."""

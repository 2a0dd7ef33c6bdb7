"""Limits and budgets: made, replaced, listed, deleted by name."""

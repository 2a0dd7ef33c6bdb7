"""Providers: the vendors that routes can name."""

"""Routing: which target of a route serves a request, and what happens when one fails (docs/routing.md).

What it does not know: wire formats, money, how a request is read from its caller (`lifecycle.py`).
"""

"""The control plane: a REST API over PostgreSQL, the snapshots that gateways live from, and the reconciler.

What it does not know: the request path, engines, Ray's Python API (it speaks to Ray over HTTP).
"""

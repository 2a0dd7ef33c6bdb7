"""Limits and budgets over all replicas of the gateway: reserve an estimate, settle the truth (docs/limits.md).

`rules.py` what holds for a request, once per snapshot · `estimate.py` what it will use at most · `limiter.py` the replica's
side, synchronous where its share is enough · `ledger.py` the cluster's side, who may spend what · `wire.py` what they say to
each other. What it does not know: HTTP, Ray, where the ledger runs.
"""

"""Usage records from the metrics store.

What it does not know: HTTP, ClickHouse's SQL (`foundry/metrics/queries.py`).
"""

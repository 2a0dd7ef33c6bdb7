"""Batches: requests in a file, run by the gateway's replicas on the owner's key within a day.

What it does not know: the lifecycle of one request, which a line takes like any other (`gateway/inner.py`).
"""

"""Usage records from the gateway's disk to ClickHouse, and back out as answers.

`spool` (hot path) → `writer` (batches) → a ClickHouse server, or `embedded` (chDB behind the same protocol) ← `store`, `queries`.
What it does not know: requests, routes, prices (a record arrives complete), who may see which record (`control_api`).
"""

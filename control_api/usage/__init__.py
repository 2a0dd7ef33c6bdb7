"""Usage: what requests used and cost, read from the metrics store."""

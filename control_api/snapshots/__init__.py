"""Snapshots: the signed configuration that gateways live from."""

"""Frozen contracts that cross a process or a module boundary. No logic beyond validation; no I/O."""

"""The gateway's configuration file: watched, checked, applied, and what became of it."""

"""Virtual keys: made, shown once, listed, revoked."""

"""Routing: parts by themselves, then over real sockets."""

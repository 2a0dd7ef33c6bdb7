"""Vendors: what they are (`vendors.toml`: a vendor is data) and how each wire protocol is spoken to them.

What it does not know: routing, money, and each other's protocols.
"""

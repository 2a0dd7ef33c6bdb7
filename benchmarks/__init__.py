"""Benchmarks: one command each, side by side with what they compare to, one JSON line on stdout.

They measure Foundry from outside and are not part of the product: nothing in `foundry` imports them.
"""

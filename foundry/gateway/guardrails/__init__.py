"""Guardrails: guards over what is sent to models and what they say. `registry.GUARDS` holds the kinds, `compiled.Guards` a
snapshot's profiles. What it does not know: HTTP, targets, money.
"""

"""Answers kept for requests that come again: exact match, and by meaning where a route asks for it.

What it does not know: wire formats beyond the members it must tell apart; who is asked when it has no answer.
"""

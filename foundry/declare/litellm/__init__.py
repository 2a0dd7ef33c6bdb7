"""A LiteLLM proxy's configuration turned into ours: `convert.convert`, and what has no equivalent.

Facts about LiteLLM's keys come from its public documentation of the proxy's config.yaml, read on 2026-11-21.
What it does not know: LiteLLM's database (keys, teams and their budgets live there, not in the file).
"""

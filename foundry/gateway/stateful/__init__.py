"""Protocols with a memory: files, batches and stored responses, kept in one object store and keyed by project.

What it does not know: plain inference, which never waits for the store.
"""

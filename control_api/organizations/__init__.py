"""Organisations: the owners of projects."""

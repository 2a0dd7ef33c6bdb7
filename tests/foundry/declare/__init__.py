"""Tests of the gateway as a file."""

"""The request path: one lifecycle for every protocol, served from a snapshot.

What it does not know: web frameworks (it speaks raw ASGI), the control plane's code, databases.
"""

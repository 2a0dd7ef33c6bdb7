"""Foundry, the library: contracts and logic that every app shares.

What it does not know: web frameworks, SQL, and (at import time) Ray. The apps in `serve_apps/`, `tune_jobs/`,
`kuberay/` and `control_api/` import it; it imports none of them.
"""

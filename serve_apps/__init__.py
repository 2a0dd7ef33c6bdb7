"""Ray Serve applications, thin: each module has `build(args)`, which Serve calls from its configuration.

What it does not know: the control plane (it reaches these over Serve's REST API).
"""

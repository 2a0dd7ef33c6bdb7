"""Kubernetes and clouds: manifests as templates, rendered and sent; imports only `foundry`."""

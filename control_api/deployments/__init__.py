"""Deployments: desired state in, observed status out."""

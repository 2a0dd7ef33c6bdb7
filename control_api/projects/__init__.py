"""Projects: what keys, deployments and routes belong to."""

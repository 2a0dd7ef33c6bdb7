"""Clusters: what the reconciler saw of Ray and of the gateway."""
